package disk

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// inside marks the process that runs a test in a mount namespace of its own.
const inside = "RUSD_SUITE_MOUNT_NAMESPACE"

// withVolumes runs a test in a mount namespace of its own, where it may mount
// file systems, as root or as anybody else: the test runs itself once more as
// a child that has one. Nothing that it mounts outlives that child.
func withVolumes(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal("cannot make the mounts of the namespace private: ", err)
		}
		test(t)
		return
	}
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), inside+"=1")
	// The kernel kills the child when the thread that forked it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a mount namespace of its own: %v\n%s", err, output)
	}
	t.Logf("%s", output)
}

// volume is a small file system.
type volume struct {
	t   *testing.T
	dir string
}

// mount puts an empty file system of so many bytes at a directory.
func mount(t *testing.T, dir string, bytes uint64) *volume {
	t.Helper()
	v := &volume{t: t, dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	v.mount(0, fmt.Sprintf("mode=700,size=%d", bytes))
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return v
}

func (v *volume) mount(flags uintptr, options string) {
	v.t.Helper()
	if err := syscall.Mount("tmpfs", v.dir, "tmpfs", flags, options); err != nil {
		v.t.Fatalf("cannot mount a file system at %s (%s): %v", v.dir, options, err)
	}
}

// resize gives it another size.
func (v *volume) resize(bytes uint64) {
	v.t.Helper()
	v.mount(syscall.MS_REMOUNT, fmt.Sprintf("size=%d", bytes))
}

// writable makes it read-only, or writable again.
func (v *volume) writable(yes bool) {
	v.t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if !yes {
		flags |= syscall.MS_RDONLY
	}
	v.mount(flags, "")
}

// used is how much of it is taken.
func (v *volume) used() uint64 {
	v.t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(v.dir, &s); err != nil {
		v.t.Fatal(err)
	}
	return (s.Blocks - s.Bfree) * uint64(s.Bsize)
}

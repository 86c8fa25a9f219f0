package harness

import (
	"os"
	"path/filepath"
	"runtime"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

var quickConnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
	MinConnectTimeout: 2 * time.Second,
}

// Root is the repository's root directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(file))))
}

func target() string {
	if dir := os.Getenv("CARGO_TARGET_DIR"); dir != "" {
		return dir
	}
	return filepath.Join(Root(), "target")
}

func goBin(variable, name string) string {
	if bin := os.Getenv(variable); bin != "" {
		return bin
	}
	return filepath.Join(Root(), "target", "go-bin", name)
}

// EtcdBin is the real etcd: $ETCD_BIN, or what scripts/go-tools.sh built.
func EtcdBin() string { return goBin("ETCD_BIN", "etcd") }

// EtcdctlBin is the real etcdctl: $ETCDCTL_BIN, or what scripts/go-tools.sh
// built.
func EtcdctlBin() string { return goBin("ETCDCTL_BIN", "etcdctl") }

// SubjectBin is the server under test: $RUSD_BIN, or the release build, or the
// debug build.
func SubjectBin() string {
	if bin := os.Getenv("RUSD_BIN"); bin != "" {
		return bin
	}
	release := filepath.Join(target(), "release", "rusd")
	if _, err := os.Stat(release); err == nil {
		return release
	}
	return filepath.Join(target(), "debug", "rusd")
}

// SelfCheck says that the subject is the real etcd itself, which is how the
// suites are tested.
func SelfCheck() bool {
	a, errA := os.Stat(EtcdBin())
	b, errB := os.Stat(SubjectBin())
	return errA == nil && errB == nil && os.SameFile(a, b)
}

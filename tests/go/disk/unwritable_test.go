package disk

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"rusd/tests/harness"
)

// TestReadOnlyDisk starts the server where it cannot write, because the file
// system is read-only: it says so, and leaves everything as it is.
func TestReadOnlyDisk(t *testing.T) {
	withVolumes(t, func(t *testing.T) {
		for _, engine := range engines {
			for _, readOnly := range []string{"everything", "log"} {
				t.Run(engine+"/"+readOnly, func(t *testing.T) { readOnlyDisk(t, engine, readOnly) })
			}
		}
		t.Run("empty", func(t *testing.T) {
			dir := t.TempDir()
			v := mount(t, filepath.Join(dir, "data"), mib)
			v.writable(false)
			endedOf(t, launch(t, dir), v.dir, "read-only file system", "mount it writable")
		})
	})
}

func readOnlyDisk(t *testing.T, engine, readOnly string) {
	dir := t.TempDir()
	data, wal := filepath.Join(dir, "data"), filepath.Join(dir, "wal")
	flags := []string{"--storage-engine=" + engine}
	at := data
	if readOnly == "log" {
		at = wal
		flags = append(flags, "--wal-dir="+wal)
	}
	v := mount(t, at, 64*mib)
	srv := start(t, dir, flags)
	acknowledged := map[string]int64{}
	for n := range 50 {
		key := fmt.Sprintf("k%d", n)
		resp, err := kv(t, srv).Put(context.Background(), &pb.PutRequest{Key: []byte(key), Value: value(key)})
		if err != nil {
			t.Fatal(err)
		}
		acknowledged[key] = resp.Header.Revision
	}
	// Killed, so that the next start finds something to do.
	srv.Kill()
	before := content(t, dir)
	v.writable(false)
	if err := srv.Relaunch(); err != nil {
		t.Fatal(err)
	}
	endedOf(t, srv, at, "read-only file system", "mount")
	if after := content(t, dir); !maps.Equal(before, after) {
		t.Errorf("something was changed:\nbefore %v\nafter  %v", before, after)
	}
	v.writable(true)
	if err := srv.Respawn(); err != nil {
		t.Fatal(err)
	}
	expect(t, srv, acknowledged)
}

// TestForbiddenDirectory starts the server as a user who may not write to the
// data directory.
func TestForbiddenDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, bin := filepath.Join(dir, "data"), filepath.Join(dir, "rusd")
	program, err := os.ReadFile(harness.SubjectBin())
	if err == nil {
		err = os.WriteFile(bin, program, 0o755)
	}
	if err == nil {
		err = os.Mkdir(data, 0o555)
	}
	// Everybody may go there, so that it is the directory that refuses.
	for above := dir; err == nil && above != filepath.Clean(os.TempDir()); above = filepath.Dir(above) {
		err = os.Chmod(above, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	options := harness.Options{Bin: bin, Dir: dir}
	if os.Getuid() == 0 {
		// Modes do not bind root.
		options.UID = nobody
	}
	srv, err := harness.Launch(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	endedOf(t, srv, data, "permission denied", "give the user that runs rusd access")
	if left := content(t, data); len(left) != 0 {
		t.Errorf("something was made: %v", left)
	}
}

// nobody owns no files.
const nobody = 65534

// launch starts the server with its data in dir/data, without waiting for it.
func launch(t *testing.T, dir string) *harness.Server {
	t.Helper()
	srv, err := harness.Launch(harness.Options{Bin: harness.SubjectBin(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

// content sums up every file of the data and of the log, but for the server's
// output and for who holds the lock.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() == "LOCK" || path == filepath.Join(dir, "log") {
			return err
		}
		data, err := os.ReadFile(path)
		sums[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

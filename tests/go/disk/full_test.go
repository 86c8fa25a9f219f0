// Package disk runs the server on disks that are full or cannot be written,
// which it mounts itself.
package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"rusd/tests/harness"
)

var engines = []string{"sled", "redb"}

const mib = 1 << 20

// endTimeout is how long a server whose disk is full may take to end.
const endTimeout = 20 * time.Second

// TestFullDisk fills the disk of the log, of the engine, or of both: the
// process ends and says why in one line; with space it goes on, and everything
// that it acknowledged is there.
func TestFullDisk(t *testing.T) {
	withVolumes(t, func(t *testing.T) {
		for _, engine := range engines {
			for _, full := range []string{"everything", "log", "engine"} {
				t.Run(engine+"/"+full, func(t *testing.T) { fullDisk(t, engine, full) })
			}
		}
	})
}

func fullDisk(t *testing.T, engine, full string) {
	dir := t.TempDir()
	flags := []string{"--storage-engine=" + engine, "--engine-persist-interval=500ms", "--engine-persist-bytes=1048576"}
	data, wal := filepath.Join(dir, "data"), filepath.Join(dir, "wal")
	small := data
	if full != "everything" {
		flags = append(flags, "--wal-dir="+wal)
	}
	if full == "log" {
		small = wal
	}
	v := mount(t, small, 16*mib)
	srv := start(t, dir, flags)
	acknowledged := fill(t, srv)
	endedOf(t, srv, small, "no space", "free space")

	// A start without any space may get as far as to serve reads, or says as
	// clearly why not.
	v.resize(max(v.used(), mib))
	if err := srv.Relaunch(); err != nil {
		t.Fatal(err)
	}
	if srv.WaitReady(endTimeout) == nil {
		srv.Kill()
	} else {
		endedOf(t, srv, small, "no space", "free ")
	}

	v.resize(128 * mib)
	if err := srv.Respawn(); err != nil {
		t.Fatal(err)
	}
	expect(t, srv, acknowledged)
	if _, err := kv(t, srv).Put(context.Background(), &pb.PutRequest{Key: []byte("after"), Value: []byte("v")}); err != nil {
		t.Fatal("no write with space again: ", err)
	}
}

// TestDefragmentWithoutSpace asks for a second copy of the data where there is
// no room for one: it is given up, and the server goes on.
func TestDefragmentWithoutSpace(t *testing.T) {
	withVolumes(t, func(t *testing.T) {
		for _, engine := range engines {
			t.Run(engine, func(t *testing.T) { defragmentWithoutSpace(t, engine) })
		}
	})
}

func defragmentWithoutSpace(t *testing.T, engine string) {
	// What a rewrite leaves free, and a part of the copy.
	const room = (32 + 4) * mib
	dir := t.TempDir()
	v := mount(t, filepath.Join(dir, "data"), 256*mib)
	srv := start(t, dir, []string{"--storage-engine=" + engine, "--engine-persist-interval=100ms"})
	acknowledged := map[string]int64{}
	put := func(n int) {
		t.Helper()
		key := fmt.Sprintf("k%04d", n)
		resp, err := kv(t, srv).Put(context.Background(), &pb.PutRequest{Key: []byte(key), Value: value(key)})
		if err != nil {
			t.Fatal(err)
		}
		acknowledged[key] = resp.Header.Revision
	}
	for n := range 2000 {
		put(n)
	}
	// Everything is written when a restart has persisted it.
	if err := srv.Terminate(endTimeout); err != nil {
		t.Fatal(err)
	}
	if err := srv.Respawn(); err != nil {
		t.Fatal(err)
	}
	v.resize(v.used() + room)
	_, err := maintenance(t, srv).Defragment(context.Background(), &pb.DefragmentRequest{})
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "no space") {
		t.Fatal("defragmentation without space: ", err)
	}
	if copies, _ := filepath.Glob(filepath.Join(dir, "data", "store", "engine-*")); len(copies) != 1 {
		t.Errorf("the unfinished copy is still there: %v", copies)
	}
	put(2000)
	expect(t, srv, acknowledged)

	v.resize(512 * mib)
	if _, err := maintenance(t, srv).Defragment(context.Background(), &pb.DefragmentRequest{}); err != nil {
		t.Fatal("defragmentation with space: ", err)
	}
	put(2001)
	srv.Kill()
	if err := srv.Respawn(); err != nil {
		t.Fatal(err)
	}
	expect(t, srv, acknowledged)
}

// start starts the server with its data in dir/data, and ends it with the test.
func start(t *testing.T, dir string, flags []string) *harness.Server {
	t.Helper()
	srv, err := harness.Start(harness.Options{Bin: harness.SubjectBin(), Dir: dir, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	return srv
}

func kv(t *testing.T, srv *harness.Server) pb.KVClient {
	t.Helper()
	conn, err := harness.Dial(srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewKVClient(conn)
}

func maintenance(t *testing.T, srv *harness.Server) pb.MaintenanceClient {
	t.Helper()
	conn, err := harness.Dial(srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return pb.NewMaintenanceClient(conn)
}

// value is a value of some kilobytes that belongs to its key.
func value(key string) []byte { return []byte(strings.Repeat(key+" ", 8192/(len(key)+1))) }

// fill writes until the server ends, and returns what it acknowledged: keys
// and their revisions.
func fill(t *testing.T, srv *harness.Server) map[string]int64 {
	t.Helper()
	const writers, enough = 16, 100_000
	client := kv(t, srv)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	acknowledged := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range enough {
				key := fmt.Sprintf("w%d-%d", w, i)
				resp, err := client.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: value(key)})
				if err != nil {
					return
				}
				mu.Lock()
				acknowledged[key] = resp.Header.Revision
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		t.Fatalf("the disk does not fill up: %v\n%s", err, srv.LogTail(20))
	}
	if len(acknowledged) < 100 {
		t.Fatalf("hardly anything was written: %d\n%s", len(acknowledged), srv.LogTail(20))
	}
	return acknowledged
}

// endedOf waits for the server to end: with exit code 1, and with one line that
// says it all.
func endedOf(t *testing.T, srv *harness.Server, parts ...string) {
	t.Helper()
	code, err := srv.AwaitEnd(endTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	log := srv.LogTail(1 << 20)
	var fatal []string
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, `"level":"fatal"`) {
			fatal = append(fatal, line)
		}
	}
	if len(fatal) != 1 || strings.Contains(log, "backtrace") || strings.Contains(log, "panicked") {
		t.Fatalf("not one clear line, but:\n%s", srv.LogTail(20))
	}
	t.Log(fatal[0])
	for _, part := range parts {
		if !strings.Contains(strings.ToLower(fatal[0]), strings.ToLower(part)) {
			t.Errorf("the line does not say %q: %s", part, fatal[0])
		}
	}
	// What comes next is judged by its own lines.
	if err := os.Truncate(srv.LogPath(), 0); err != nil {
		t.Fatal(err)
	}
}

// expect looks for what was acknowledged, in a history without gaps.
func expect(t *testing.T, srv *harness.Server, acknowledged map[string]int64) {
	t.Helper()
	all, err := kv(t, srv).Range(context.Background(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	found, revisions := map[string]int64{}, []int64{}
	for _, kv := range all.Kvs {
		found[string(kv.Key)] = kv.ModRevision
		revisions = append(revisions, kv.ModRevision)
		if string(kv.Key) != "after" && string(kv.Value) != string(value(string(kv.Key))) {
			t.Errorf("%s has another key's value", kv.Key)
		}
	}
	lost := 0
	for key, revision := range acknowledged {
		if found[key] != revision {
			lost++
		}
	}
	// Every write made a key of its own, so there is one for each revision.
	slices.Sort(revisions)
	for i, revision := range revisions {
		if revision != int64(i)+2 {
			t.Fatalf("revision %d after %d keys", revision, i)
		}
	}
	if lost > 0 || all.Header.Revision != int64(len(revisions))+1 {
		t.Errorf("%d of %d acknowledged writes are lost; %d keys at revision %d", lost, len(acknowledged), len(revisions), all.Header.Revision)
	}
}

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"rusd/tests/harness"
)

// maxStall is the longest time in which no call at all may complete. A healthy
// server completes thousands a second at this load; five seconds is far beyond
// a slow fsync, and below the 7 s after which clients get errors.
const maxStall = 5 * time.Second

// keptRevisions is the history that compactions leave.
const keptRevisions = 10_000

// soak runs a mixed load for a long time, with watches, leases and
// compactions beside, and fails on a stall, on any failed call, on a lost
// event, or if the memory keeps growing.
func soak(args []string) error {
	fs := flag.NewFlagSet("soak", flag.ExitOnError)
	duration := fs.Duration("duration", 10*time.Minute, "of the run")
	clients := fs.Int("clients", 1000, "clients")
	keys := fs.Int("keys", 20_000, "keys")
	engine := fs.String("engine", "sled", "storage engine")
	compactEvery := fs.Duration("compact-every", 0, "between compactions beside the automatic ones, which come every five minutes; 0 for none")
	maxRSS := fs.Int64("max-rss-mb", 2000, "resident memory that fails the run")
	fs.Parse(args)

	dir, err := os.MkdirTemp("", "rusd-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	flags := []string{"--quota-backend-bytes=8589934592", "--auto-compaction-mode=revision", fmt.Sprintf("--auto-compaction-retention=%d", keptRevisions)}
	if !harness.SelfCheck() {
		flags = append(flags, "--storage-engine="+*engine)
	}
	srv, err := harness.Start(harness.Options{Bin: harness.SubjectBin(), Flags: flags, Dir: dir})
	if err != nil {
		return err
	}
	defer srv.Close()
	if _, err := fillKeys(srv.Addr, *keys, 256); err != nil {
		return err
	}
	watchErr := make(chan error, 1)
	go func() {
		f := fanOut{addr: srv.Addr, watchers: 1000, perStream: 50, conns: 10, duration: *duration, rate: 10}
		res, err := f.run(64)
		if err == nil && res.missing != 0 {
			err = fmt.Errorf("%d of %d events never came", res.missing, res.writes*1000)
		}
		watchErr <- err
	}()
	shared := &progress{}
	stopped := make(chan error, 1)
	go func() { stopped <- observe(srv, shared, *maxRSS, *compactEvery) }()
	l := load{addr: srv.Addr, clients: *clients, duration: *duration, make: func(client int) operation {
		if client%50 == 0 {
			// Leases that expire while the load runs.
			return newGrant(5)
		}
		return &mixed{&either{newGet(*keys, false), newWindow(*keys, 20), newLaterPage(*keys, 50, 0)}, &either{newPut(*keys, 256), newCompareAndPut(*keys, 256), newPut(*keys, 256)}, 50}
	}}
	res, err := l.runWith(shared)
	shared.stop.Store(true)
	if oerr := <-stopped; err == nil {
		err = oerr
	}
	if werr := <-watchErr; err == nil {
		err = werr
	}
	if !srv.Alive() {
		return fmt.Errorf("the server ended:\n%s", srv.LogTail(30))
	}
	if err != nil {
		return err
	}
	show(res)
	fmt.Printf("longest time without a completed call: %v\n", res.longestGap.Round(time.Millisecond))
	if res.errors > 0 {
		return fmt.Errorf("%d calls failed, the first with %s", res.errors, res.first)
	}
	if res.longestGap > maxStall {
		return fmt.Errorf("nothing completed for %v", res.longestGap)
	}
	return srv.Terminate(30 * time.Second)
}

// observe prints a line now and then, and ends the load at a stall or when
// memory passes its limit. It compacts, if wanted.
func observe(srv *harness.Server, shared *progress, maxMB int64, compactEvery time.Duration) error {
	conn, err := harness.Dial(srv.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	begin, last, since := time.Now(), int64(0), time.Now()
	next, compacted := begin.Add(10*time.Second), begin
	for !shared.stop.Load() {
		time.Sleep(100 * time.Millisecond)
		n := shared.completed.Load()
		if n != last {
			last, since = n, time.Now()
		} else if stall := time.Since(since); stall > maxStall {
			shared.stop.Store(true)
			return fmt.Errorf("nothing has completed for %v, %v after the start\n%s", stall, time.Since(begin).Round(time.Second), srv.LogTail(20))
		}
		if time.Now().Before(next) {
			continue
		}
		next = next.Add(10 * time.Second)
		now, _, err := rss(srv.Pid())
		if err != nil {
			shared.stop.Store(true)
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), maxStall)
		status, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
		cancel()
		if err != nil {
			shared.stop.Store(true)
			return fmt.Errorf("status: %w", err)
		}
		fmt.Printf("%6v  %9d calls, memory %d MB, database %d MB, in use %d MB\n", time.Since(begin).Round(time.Second), n, now>>20, status.DbSize>>20, status.DbSizeInUse>>20)
		if compactEvery > 0 && time.Since(compacted) >= compactEvery {
			compacted = time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), maxStall)
			_, err := pb.NewKVClient(conn).Compact(ctx, &pb.CompactionRequest{Revision: status.Header.Revision - keptRevisions})
			cancel()
			if err != nil {
				shared.stop.Store(true)
				return fmt.Errorf("compact: %w", err)
			}
		}
		if now>>20 > maxMB {
			shared.stop.Store(true)
			return fmt.Errorf("%d MB of memory, more than %d", now>>20, maxMB)
		}
	}
	return nil
}

// either picks one of several operations each time.
type either struct{ a, b, c operation }

func (e *either) next(rnd *rand.Rand) (string, []byte) {
	switch rnd.IntN(10) {
	case 0:
		return e.b.next(rnd)
	case 1:
		return e.c.next(rnd)
	default:
		return e.a.next(rnd)
	}
}
func (e *either) done(int) {}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"rusd/tests/harness"
)

// settings are the knobs of a comparison.
type settings struct {
	rounds   int
	duration time.Duration
	// keys are in the store under the read loads; bigKeys fill it for memory,
	// disk and start time, 0 leaves that out.
	keys, bigKeys int
	valueSize     int
	clients       []int
	watchers      []int
	dir           string
	only          string
}

// measure is one figure of one subject in one round.
type measure struct {
	// Name of the row, such as "put, 64 clients".
	Name string
	// Unit of Value.
	Unit string
	// Better is "more" or "less".
	Better string
	Value  float64
	// P50 and P99 are latencies in milliseconds, CPU the server's time in
	// milliseconds per thousand operations, 0 where they have no meaning.
	P50, P99, CPU float64
	Errors        int64
}

// recorder collects the measures of one subject in one round.
type recorder struct {
	subject  string
	round    int
	srv      *harness.Server
	settings *settings
	measures []measure
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// load runs one closed-loop load and records it.
func (r *recorder) load(name string, l load) error {
	if !r.settings.wants(name) {
		return nil
	}
	l.addr = r.srv.Addr
	if l.duration == 0 {
		l.duration = r.settings.duration
	}
	before, err := cpu(r.srv.Pid())
	if err != nil {
		return err
	}
	res, err := l.run()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	after, err := cpu(r.srv.Pid())
	if err != nil {
		return err
	}
	m := measure{
		Name: name, Unit: "ops/s", Better: "more", Value: res.rate(), P50: ms(res.hist.quantile(0.5)), P99: ms(res.hist.quantile(0.99)),
		CPU: ms(after-before) / float64(res.hist.total) * 1000, Errors: res.errors,
	}
	if l.rate > 0 {
		// At a given rate the latency is what differs.
		m.Unit, m.Better, m.Value = "ms p99", "less", m.P99
	}
	r.add(m)
	if res.errors > 0 {
		return fmt.Errorf("%s: %d calls failed, the first with %s", name, res.errors, res.first)
	}
	return nil
}

func (r *recorder) add(m measure) {
	r.measures = append(r.measures, m)
	fmt.Printf("  %-12s round %d  %-52s %12.1f %-8s p50 %8.3f ms  p99 %8.3f ms  cpu %7.1f ms/1000\n", r.subject, r.round, m.Name, m.Value, m.Unit, m.P50, m.P99, m.CPU)
}

// fillKeys puts keys [0, n).
func fillKeys(addr string, n, size int) (*result, error) {
	var counter atomic.Int64
	t := &pb.PutRequest{Key: key(marker), Value: value(size)}
	l := load{addr: addr, clients: 256, duration: time.Hour, count: int64(n), make: func(int) operation { return &fill{newTemplate(t), &counter} }}
	res, err := l.run()
	if err == nil && res.errors > 0 {
		err = fmt.Errorf("%d puts failed, the first with %s", res.errors, res.first)
	}
	return res, err
}

// round measures everything on one subject, on a fresh data directory.
func (s *settings) round(sub subject, number int) ([]measure, error) {
	dir, err := os.MkdirTemp(s.dir, sub.name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	floor, p50, err := fsyncFloor(s.dir, s.valueSize)
	if err != nil {
		return nil, err
	}
	r := &recorder{subject: sub.name, round: number, settings: s}
	r.add(measure{Name: "(fsync floor: append and fdatasync)", Unit: "ops/s", Better: "more", Value: floor, P50: ms(p50)})
	took, srv, err := startTime(sub, dir)
	if err != nil {
		return nil, err
	}
	r.srv = srv
	defer func() { r.srv.Close() }()
	r.add(measure{Name: "start, empty", Unit: "ms", Better: "less", Value: ms(took)})
	if now, _, err := rss(srv.Pid()); err == nil {
		r.add(measure{Name: "memory, empty", Unit: "MB", Better: "less", Value: float64(now) / 1e6})
	}
	if _, err := fillKeys(srv.Addr, s.keys, s.valueSize); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	for _, step := range []func(*recorder) error{reads, pages, writes, leases, watches} {
		if err := step(r); err != nil {
			return r.measures, err
		}
	}
	if s.bigKeys > 0 && s.wants("after filling") {
		return r.measures, s.big(sub, r)
	}
	return r.measures, nil
}

func reads(r *recorder) error {
	s := r.settings
	for _, clients := range s.clients {
		for _, serializable := range []bool{false, true} {
			kind := "linearizable"
			if serializable {
				kind = "serializable"
			}
			if err := r.load(fmt.Sprintf("get, %s, %d clients", kind, clients), load{clients: clients, make: func(int) operation { return newGet(s.keys, serializable) }}); err != nil {
				return err
			}
		}
	}
	for _, count := range []int{10, 100, 1000} {
		if err := r.load(fmt.Sprintf("range of %d keys, 64 clients", count), load{clients: 64, make: func(int) operation { return newWindow(s.keys, count) }}); err != nil {
			return err
		}
	}
	return nil
}

// pages reads pages of a long list while a writer runs.
func pages(r *recorder) error {
	s := r.settings
	conn, err := harness.Dial(r.srv.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	now, err := pb.NewKVClient(conn).Range(context.Background(), &pb.RangeRequest{Key: []byte("none")})
	if err != nil {
		return err
	}
	for _, limit := range []int{10, 500} {
		for _, later := range []bool{false, true} {
			which, revision := "first page", now.Header.Revision
			if later {
				which = "later page at a past revision"
			}
			name := fmt.Sprintf("%s of %d of %d keys, 64 clients, 500 puts/s", which, limit, s.keys)
			if !s.wants(name) {
				continue
			}
			shared := &progress{}
			done := make(chan error, 1)
			go func() {
				writer := load{addr: r.srv.Addr, clients: 1, conns: 1, rate: 500, duration: time.Hour, make: func(int) operation { return newPut(s.keys, s.valueSize) }}
				_, err := writer.runWith(shared)
				done <- err
			}()
			err := r.load(name, load{clients: 64, make: func(int) operation {
				if later {
					return newLaterPage(s.keys, limit, revision)
				}
				return newFirstPage(limit)
			}})
			shared.stop.Store(true)
			if werr := <-done; err == nil && werr != nil {
				err = fmt.Errorf("the writer beside: %w", werr)
			}
			if err != nil {
				return err
			}
		}
	}
	return putsBesideLargeReads(r)
}

// putsBesideLargeReads compares the p99 of puts alone and beside a reader of
// everything.
func putsBesideLargeReads(r *recorder) error {
	s := r.settings
	name := "put, 64 clients, 1000 puts/s"
	beside := fmt.Sprintf("%s beside reads of %d keys", name, s.keys)
	if !s.wants(beside) {
		return nil
	}
	put := load{clients: 64, conns: 64, rate: 1000, make: func(int) operation { return newPut(s.keys, s.valueSize) }}
	if err := r.load(name, put); err != nil {
		return err
	}
	// The reader of everything is a process of its own: beside it, this one would measure how its own goroutines
	// wait for each other.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	reader := exec.Command(self, "load", "-addr", r.srv.Addr, "-op", "page", "-count", "0", "-clients", "1", "-duration", (s.duration + time.Minute).String())
	if err := reader.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- reader.Wait() }()
	err = r.load(beside, put)
	select {
	case early := <-ended:
		return fmt.Errorf("the reader beside ended early: %v", early)
	default:
	}
	if kerr := reader.Process.Kill(); err == nil {
		err = kerr
	}
	<-ended
	return err
}

func writes(r *recorder) error {
	s := r.settings
	for _, clients := range s.clients {
		if err := r.load(fmt.Sprintf("put, %d clients", clients), load{clients: clients, make: func(int) operation { return newPut(s.keys, s.valueSize) }}); err != nil {
			return err
		}
	}
	for _, clients := range s.clients {
		if err := r.load(fmt.Sprintf("txn compare-and-put, %d clients", clients), load{clients: clients, make: func(int) operation { return newCompareAndPut(s.keys, s.valueSize) }}); err != nil {
			return err
		}
	}
	for _, writePercent := range []int{20, 80} {
		for _, clients := range s.clients {
			if clients != 64 && writePercent == 80 {
				continue
			}
			name := fmt.Sprintf("mixed, %d %% puts, %d clients", writePercent, clients)
			if err := r.load(name, load{clients: clients, make: func(int) operation {
				return &mixed{newGet(s.keys, false), newPut(s.keys, s.valueSize), writePercent}
			}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func leases(r *recorder) error {
	for _, clients := range []int{1, 64} {
		if err := r.load(fmt.Sprintf("lease grant, %d clients", clients), load{clients: clients, make: func(int) operation { return newGrant(3600) }}); err != nil {
			return err
		}
	}
	for _, clients := range []int{1, 64} {
		name := fmt.Sprintf("lease keep-alive, %d streams", clients)
		if !r.settings.wants(name) {
			continue
		}
		before, err := cpu(r.srv.Pid())
		if err != nil {
			return err
		}
		k := keepAlive{addr: r.srv.Addr, clients: clients, duration: r.settings.duration}
		res, err := k.run()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		after, err := cpu(r.srv.Pid())
		if err != nil {
			return err
		}
		r.add(measure{Name: name, Unit: "ops/s", Better: "more", Value: res.rate(), P50: ms(res.hist.quantile(0.5)), P99: ms(res.hist.quantile(0.99)), CPU: ms(after-before) / float64(res.hist.total) * 1000})
	}
	return nil
}

func watches(r *recorder) error {
	for _, watchers := range r.settings.watchers {
		for _, rate := range []int{0, 20} {
			name := fmt.Sprintf("watch fan-out to %d watchers", watchers)
			if rate > 0 {
				name += fmt.Sprintf(", %d puts/s, latency", rate)
			}
			if !r.settings.wants(name) {
				continue
			}
			before, err := cpu(r.srv.Pid())
			if err != nil {
				return err
			}
			f := fanOut{addr: r.srv.Addr, watchers: watchers, perStream: max(watchers/100, 1), conns: min(watchers, 10), duration: r.settings.duration, rate: rate}
			res, err := f.run(r.settings.valueSize)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if res.missing != 0 {
				return fmt.Errorf("%s: %d events are missing", name, res.missing)
			}
			after, err := cpu(r.srv.Pid())
			if err != nil {
				return err
			}
			m := measure{Name: name, Unit: "events/s", Better: "more", Value: float64(res.events) / res.elapsed.Seconds(), P50: ms(res.hist.quantile(0.5)), P99: ms(res.hist.quantile(0.99)), CPU: ms(after-before) / float64(max(res.events, 1)) * 1000}
			if rate > 0 {
				m.Unit, m.Better, m.Value = "ms p99", "less", m.P99
			}
			r.add(m)
		}
	}
	return nil
}

// big fills a fresh server with many keys, and measures memory, disk and a
// restart.
func (s *settings) big(sub subject, r *recorder) error {
	r.srv.Close()
	dir, err := os.MkdirTemp(s.dir, sub.name+"-big-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	srv, err := harness.Start(harness.Options{Bin: sub.bin, Flags: sub.flags, Dir: dir})
	if err != nil {
		return err
	}
	r.srv = srv
	res, err := fillKeys(srv.Addr, s.bigKeys, s.valueSize)
	if err != nil {
		return err
	}
	after := fmt.Sprintf("after filling with %d keys", s.bigKeys)
	r.add(measure{Name: after + ": puts", Unit: "ops/s", Better: "more", Value: res.rate(), P50: ms(res.hist.quantile(0.5)), P99: ms(res.hist.quantile(0.99))})
	// What runs behind the last reply is given a moment.
	time.Sleep(3 * time.Second)
	now, peak, err := rss(srv.Pid())
	if err != nil {
		return err
	}
	r.add(measure{Name: after + ": memory", Unit: "MB", Better: "less", Value: float64(now) / 1e6})
	r.add(measure{Name: after + ": memory at most", Unit: "MB", Better: "less", Value: float64(peak) / 1e6})
	if err := srv.Terminate(60 * time.Second); err != nil {
		return err
	}
	disk, err := diskUse(filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	r.add(measure{Name: after + ": disk", Unit: "MB", Better: "less", Value: float64(disk) / 1e6})
	begin := time.Now()
	if err := srv.Respawn(); err != nil {
		return err
	}
	r.add(measure{Name: after + ": start", Unit: "ms", Better: "less", Value: ms(time.Since(begin))})
	if now, _, err = rss(srv.Pid()); err != nil {
		return err
	}
	r.add(measure{Name: after + ": memory after a restart", Unit: "MB", Better: "less", Value: float64(now) / 1e6})
	return nil
}

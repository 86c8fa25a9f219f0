package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// An operation makes the requests of one client of a closed loop: each client
// has one call under way at any time.
type operation interface {
	// next returns the next request. The body is used before the next call.
	next(rnd *rand.Rand) (path string, body []byte)
	// done is told the size of a reply.
	done(bytes int)
}

// load is a number of clients that repeat an operation for a while.
type load struct {
	addr    string
	clients int
	// conns is how many connections the clients share.
	conns    int
	duration time.Duration
	// count ends the load early, if not 0.
	count int64
	// rate holds the load back to so many operations a second, if not 0.
	rate int
	// make makes the operation of one client.
	make func(client int) operation
}

// connsFor is how many connections so many clients share: as an application
// with several client objects would have.
func connsFor(clients int) int {
	switch {
	case clients <= 4:
		return clients
	case clients <= 64:
		return 8
	case clients <= 256:
		return 16
	default:
		return 50
	}
}

// result is what a load measured.
type result struct {
	hist    histogram
	bytes   int64
	errors  int64
	first   string
	elapsed time.Duration
	// longestGap is the longest time in which nothing at all completed.
	longestGap time.Duration
}

func (r *result) rate() float64 {
	if r.elapsed == 0 {
		return 0
	}
	return float64(r.hist.total) / r.elapsed.Seconds()
}

// progress is shared by all connections of a load.
type progress struct {
	completed atomic.Int64
	left      atomic.Int64
	stop      atomic.Bool
}

// worker drives the clients of one connection.
type worker struct {
	c       *conn
	load    *load
	rnd     *rand.Rand
	shared  *progress
	slots   map[uint32]*slot
	hist    histogram
	bytes   int64
	errors  int64
	first   string
	until   time.Time
	pace    time.Duration
	nextDue time.Time
}

type slot struct {
	op      operation
	started time.Time
	bytes   int
}

func (w *worker) data(stream uint32, payload []byte) {
	if s := w.slots[stream]; s != nil {
		s.bytes += len(payload)
	}
}

func (w *worker) end(stream uint32, status int, message string) {
	s := w.slots[stream]
	if s == nil {
		return
	}
	delete(w.slots, stream)
	now := time.Now()
	if status == 0 {
		w.hist.add(now.Sub(s.started))
		w.bytes += int64(s.bytes)
	} else {
		w.errors++
		if w.first == "" {
			w.first = fmt.Sprintf("status %d: %s", status, message)
		}
	}
	w.shared.completed.Add(1)
	s.op.done(s.bytes)
	w.issue(s, now)
}

// issue starts a client's next call, unless the load is over.
func (w *worker) issue(s *slot, now time.Time) {
	if now.After(w.until) || w.shared.stop.Load() {
		return
	}
	if w.load.count > 0 && w.shared.left.Add(-1) < 0 {
		return
	}
	if w.pace > 0 {
		// A held-back load has one client a connection, which may sleep.
		if wait := time.Until(w.nextDue); wait > 0 {
			w.c.flush()
			time.Sleep(wait)
		}
		w.nextDue = w.nextDue.Add(w.pace)
		now = time.Now()
		if now.After(w.until) || w.shared.stop.Load() {
			return
		}
	}
	path, body := s.op.next(w.rnd)
	s.started, s.bytes = now, 0
	w.slots[w.c.call(path, body)] = s
}

func (w *worker) run(first, step int) error {
	now := time.Now()
	w.nextDue = now
	for client := first; client < w.load.clients; client += step {
		w.issue(&slot{op: w.load.make(client)}, now)
	}
	for len(w.slots) > 0 {
		if err := w.c.read(); err != nil {
			return err
		}
	}
	return nil
}

// run runs the load and waits for its end.
func (l *load) run() (*result, error) { return l.runWith(&progress{}) }

func (l *load) runWith(shared *progress) (*result, error) {
	shared.left.Store(l.count)
	conns := l.conns
	if conns == 0 {
		conns = connsFor(l.clients)
	}
	workers := make([]*worker, conns)
	for i := range workers {
		w := &worker{load: l, rnd: rand.New(rand.NewPCG(uint64(i), 7)), shared: shared, slots: map[uint32]*slot{}}
		c, err := dial(l.addr, w)
		if err != nil {
			return nil, err
		}
		defer c.close()
		if l.rate > 0 {
			w.pace = time.Second * time.Duration(conns) / time.Duration(l.rate)
		}
		w.c, workers[i] = c, w
	}
	begin := time.Now()
	errs := make(chan error, conns)
	var wg sync.WaitGroup
	for i, w := range workers {
		w.until = begin.Add(l.duration)
		wg.Go(func() {
			if err := w.run(i, conns); err != nil {
				shared.stop.Store(true)
				errs <- err
			}
		})
	}
	gap := watchGaps(shared)
	wg.Wait()
	r := &result{elapsed: time.Since(begin), longestGap: gap()}
	close(errs)
	for err := range errs {
		return nil, err
	}
	for _, w := range workers {
		r.hist.merge(&w.hist)
		r.bytes += w.bytes
		r.errors += w.errors
		if r.first == "" {
			r.first = w.first
		}
	}
	if r.hist.total == 0 {
		return nil, errors.New("nothing completed: " + r.first)
	}
	return r, nil
}

// watchGaps looks for times in which nothing completes.
func watchGaps(shared *progress) func() time.Duration {
	done := make(chan struct{})
	found := make(chan time.Duration)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var longest time.Duration
		last, since := int64(-1), time.Now()
		for {
			select {
			case <-done:
				found <- max(longest, time.Since(since))
				return
			case <-tick.C:
				if n := shared.completed.Load(); n != last {
					last, since = n, time.Now()
				} else {
					longest = max(longest, time.Since(since))
				}
			}
		}
	}()
	return func() time.Duration {
		close(done)
		return <-found
	}
}

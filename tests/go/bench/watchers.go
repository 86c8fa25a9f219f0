package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// fanOut is a number of watches on one key range, and a writer whose values
// say when they were sent.
type fanOut struct {
	addr     string
	watchers int
	// perStream watches share a stream, and streams a connection.
	perStream, conns int
	duration         time.Duration
	// rate is how many writes a second the writer makes; 0 as fast as the
	// events are delivered, with a bounded number outstanding.
	rate int
}

// fanOutResult is what the watchers saw.
type fanOutResult struct {
	events  int64
	writes  int64
	elapsed time.Duration
	hist    histogram
	missing int64
}

// reader counts the events of the watch streams of one connection.
type reader struct {
	c       *conn
	partial map[uint32][]byte
	created int
	events  *atomic.Int64
	hist    histogram
	failed  string
}

func (r *reader) data(stream uint32, payload []byte) {
	buf := payload
	if p := r.partial[stream]; len(p) > 0 {
		buf = append(p, payload...)
		r.partial[stream] = nil
	}
	for len(buf) >= 5 {
		n := int(binary.BigEndian.Uint32(buf[1:]))
		if len(buf) < 5+n {
			break
		}
		r.message(buf[5 : 5+n])
		buf = buf[5+n:]
	}
	if len(buf) > 0 {
		r.partial[stream] = append([]byte{}, buf...)
	}
}

// message looks into a WatchResponse without unmarshalling it.
func (r *reader) message(msg []byte) {
	events := int64(0)
	now := time.Now().UnixNano()
	fields(msg, func(number int, content []byte, varint uint64) {
		switch number {
		case 3:
			r.created++
		case 4:
			r.failed = "a watch was cancelled"
		case 11:
			events++
			fields(content, func(number int, kv []byte, _ uint64) {
				if number != 2 {
					return
				}
				fields(kv, func(number int, value []byte, _ uint64) {
					if number == 5 && len(value) >= 8 {
						r.hist.add(time.Duration(now - int64(binary.BigEndian.Uint64(value))))
					}
				})
			})
		}
	})
	r.events.Add(events)
}

func (r *reader) end(_ uint32, status int, message string) {
	r.failed = fmt.Sprintf("a watch stream ended: %d %s", status, message)
}

// run opens the watches, writes, and counts what arrives.
func (f *fanOut) run(size int) (*fanOutResult, error) {
	var events atomic.Int64
	readers := make([]*reader, f.conns)
	create, err := proto.Marshal(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("/fan/"), RangeEnd: []byte("/fan0")}}})
	if err != nil {
		return nil, err
	}
	for i := range readers {
		r := &reader{partial: map[uint32][]byte{}, events: &events}
		c, err := dial(f.addr, r)
		if err != nil {
			return nil, err
		}
		defer c.close()
		r.c, readers[i] = c, r
		mine := f.watchers / f.conns
		if i < f.watchers%f.conns {
			mine++
		}
		var stream uint32
		for w := range mine {
			if w%f.perStream == 0 {
				stream = c.start(pathWatch, create, true)
			} else {
				c.more(stream, create)
			}
			// The server's window for a stream is small.
			for r.created <= w-16 && r.failed == "" {
				if err := c.read(); err != nil {
					return nil, err
				}
			}
		}
		for r.created < mine && r.failed == "" {
			if err := c.read(); err != nil {
				return nil, err
			}
		}
		if r.failed != "" {
			return nil, fmt.Errorf("%s", r.failed)
		}
	}
	var wg sync.WaitGroup
	errs := make(chan error, f.conns)
	for _, r := range readers {
		wg.Go(func() {
			for r.failed == "" {
				if err := r.c.read(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	out, err := f.write(size, &events)
	for _, r := range readers {
		r.c.close()
	}
	wg.Wait()
	if err != nil {
		return nil, err
	}
	for _, r := range readers {
		if r.failed != "" {
			return nil, fmt.Errorf("%s", r.failed)
		}
		out.hist.merge(&r.hist)
	}
	return out, nil
}

// write puts timed values while the watchers keep up, and waits for the last
// events.
func (f *fanOut) write(size int, events *atomic.Int64) (*fanOutResult, error) {
	// At most so many events may be outstanding, so that latency is the
	// server's and not a queue's.
	const outstanding = 64
	w := &putter{}
	c, err := dial(f.addr, w)
	if err != nil {
		return nil, err
	}
	defer c.close()
	body := value(size)
	begin := time.Now()
	writes := int64(0)
	wanted := func() int64 { return writes * int64(f.watchers) }
	slack := max(int64(f.watchers), 1) * outstanding / 16
	for time.Since(begin) < f.duration {
		if f.rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(writes) * time.Second / time.Duration(f.rate))))
		} else {
			for wanted()-events.Load() > slack {
				time.Sleep(20 * time.Microsecond)
				if time.Since(begin) > f.duration+10*time.Second {
					return nil, fmt.Errorf("the watchers do not keep up: %d of %d events", events.Load(), wanted())
				}
			}
		}
		binary.BigEndian.PutUint64(body, uint64(time.Now().UnixNano()))
		req, err := proto.Marshal(&pb.PutRequest{Key: fmt.Appendf(nil, "/fan/%d", writes%16), Value: body})
		if err != nil {
			return nil, err
		}
		w.ended = false
		c.call(pathPut, req)
		for !w.ended {
			if err := c.read(); err != nil {
				return nil, err
			}
		}
		if w.failed != "" {
			return nil, fmt.Errorf("%s", w.failed)
		}
		writes++
	}
	deadline := time.Now().Add(20 * time.Second)
	for events.Load() < wanted() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	return &fanOutResult{events: events.Load(), writes: writes, elapsed: time.Since(begin), missing: wanted() - events.Load()}, nil
}

// putter waits for the end of one call.
type putter struct {
	ended  bool
	failed string
}

func (p *putter) data(uint32, []byte) {}
func (p *putter) end(_ uint32, status int, message string) {
	p.ended = true
	if status != 0 {
		p.failed = message
	}
}

// keepAlive is a number of streams on which leases are kept alive in a closed
// loop.
type keepAlive struct {
	addr     string
	clients  int
	duration time.Duration
}

// beat drives the keep-alive streams of one connection.
type beat struct {
	c       *conn
	bodies  map[uint32][]byte
	started map[uint32]time.Time
	until   time.Time
	hist    histogram
	live    int
	failed  string
}

func (b *beat) data(stream uint32, payload []byte) {
	now := time.Now()
	b.hist.add(now.Sub(b.started[stream]))
	if now.After(b.until) {
		b.live--
		return
	}
	b.started[stream] = now
	b.c.more(stream, b.bodies[stream])
}

func (b *beat) end(_ uint32, status int, message string) {
	b.failed = fmt.Sprintf("a keep-alive stream ended: %d %s", status, message)
	b.live--
}

func (k *keepAlive) run() (*result, error) {
	conns := connsFor(k.clients)
	beats := make([]*beat, conns)
	begin := time.Now()
	for i := range beats {
		b := &beat{bodies: map[uint32][]byte{}, started: map[uint32]time.Time{}}
		c, err := dial(k.addr, b)
		if err != nil {
			return nil, err
		}
		defer c.close()
		b.c, beats[i] = c, b
		g := &putter{}
		gc, err := dial(k.addr, g)
		if err != nil {
			return nil, err
		}
		defer gc.close()
		for client := i; client < k.clients; client += conns {
			id := begin.UnixNano()&(1<<40-1)<<20 + int64(client) + 1
			req, err := proto.Marshal(&pb.LeaseGrantRequest{ID: id, TTL: 600})
			if err != nil {
				return nil, err
			}
			g.ended = false
			gc.call(pathGrant, req)
			for !g.ended {
				if err := gc.read(); err != nil {
					return nil, err
				}
			}
			body, err := proto.Marshal(&pb.LeaseKeepAliveRequest{ID: id})
			if err != nil {
				return nil, err
			}
			b.bodies[c.nextStream] = body
			// The stream is opened by its first message, in run.
			c.nextStream += 2
		}
	}
	begin = time.Now()
	var wg sync.WaitGroup
	errs := make(chan error, conns)
	for _, b := range beats {
		b.until = begin.Add(k.duration)
		wg.Go(func() {
			for stream := uint32(1); stream < b.c.nextStream; stream += 2 {
				b.started[stream] = time.Now()
				b.live++
				b.c.send(request{path: pathKeepAlive, body: b.bodies[stream], stream: stream, open: true})
			}
			for b.live > 0 && b.failed == "" {
				if err := b.c.read(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		return nil, err
	}
	r := &result{elapsed: time.Since(begin)}
	for _, b := range beats {
		if b.failed != "" {
			return nil, fmt.Errorf("%s", b.failed)
		}
		r.hist.merge(&b.hist)
	}
	return r, nil
}

package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"rusd/tests/harness"
)

func numberFrom(variable string, fallback int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil {
		return n
	}
	return fallback
}

// TestRandomSequences runs random operations on both servers and compares
// every reply, what every watch saw, and the hash of the whole history, before
// and after a kill.
//
// The seeds are always the same ones, so that what fails here fails for
// everybody; DIFF_EXPLORE=1 draws new ones. DIFF_SEED repeats one sequence; DIFF_SEQUENCES and DIFF_OPS say how many
// and how long; DIFF_SHRINK=1 looks for a shorter sequence that fails.
func TestRandomSequences(t *testing.T) {
	count, length := numberFrom("DIFF_SEQUENCES", 10), numberFrom("DIFF_OPS", 250)
	seeds := make([]int, count)
	for i := range seeds {
		seeds[i] = i + 1
		if os.Getenv("DIFF_EXPLORE") != "" {
			seeds[i] = int(rand.Uint32())
		}
	}
	if seed := os.Getenv("DIFF_SEED"); seed != "" {
		seeds = []int{numberFrom("DIFF_SEED", 0)}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			ops, err := runRandom(t, uint64(seed), length)
			if err == nil {
				return
			}
			t.Errorf("DIFF_SEED=%d DIFF_OPS=%d, after %d operations: %v", seed, length, len(ops), err)
			if os.Getenv("DIFF_SHRINK") != "" {
				ops, err = shrink(t, ops, err)
				t.Errorf("shortest found, %d operations: %v", len(ops), err)
				for _, op := range ops {
					t.Logf("  %s %s", op.Verb, prototext.MarshalOptions{}.Format(op.Req))
				}
			}
		})
	}
}

func runRandom(t *testing.T, seed uint64, length int) ([]Op, error) {
	pair, err := harness.StartPair()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	g := &generator{rnd: rand.New(rand.NewPCG(seed, 1)), revision: 1, compacted: -1}
	s := newSequence(pair)
	defer s.close()
	var ops []Op
	for range length {
		op := g.next()
		ops = append(ops, op)
		reply, err := s.step(op)
		if err != nil {
			return ops, err
		}
		for _, side := range pair.Sides() {
			if !side.Server.Alive() {
				return ops, fmt.Errorf("%s ended at %s:\n%s", side.Label, op, side.Server.LogTail(30))
			}
		}
		g.follow(op, reply)
	}
	return ops, s.end()
}

// follow keeps the generator's idea of the store up to date.
func (g *generator) follow(op Op, reply proto.Message) {
	if reply == nil {
		return
	}
	m := reply.ProtoReflect()
	if f := m.Descriptor().Fields().ByName("header"); f != nil {
		if h, ok := m.Get(f).Message().Interface().(*pb.ResponseHeader); ok && h.GetRevision() > 0 {
			g.revision = h.Revision
		}
	}
	if c, ok := op.Req.(*pb.CompactionRequest); ok {
		g.compacted = c.Revision
	}
}

// shrink removes operations as long as the rest still fails.
func shrink(t *testing.T, ops []Op, failure error) ([]Op, error) {
	deadline := time.Now().Add(2 * time.Minute)
	for size := len(ops) / 2; size > 0; size /= 2 {
		for from := 0; from < len(ops) && time.Now().Before(deadline); {
			shorter := append(append([]Op{}, ops[:from]...), ops[min(from+size, len(ops)):]...)
			if err := replay(t, shorter); err != nil {
				ops, failure = shorter, err
			} else {
				from += size
			}
		}
	}
	return ops, failure
}

func replay(t *testing.T, ops []Op) error {
	pair, err := harness.StartPair()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	s := newSequence(pair)
	defer s.close()
	for _, op := range ops {
		if _, err := s.step(op); err != nil {
			return err
		}
	}
	return s.end()
}

// sequence runs operations on a pair, with one watch stream on each side.
type sequence struct {
	pair    *harness.Pair
	runners map[*harness.Side]*runner
	seen    map[*harness.Side]map[int64][]string
	// open are the watches that were neither refused nor cancelled.
	open map[*harness.Side]map[int64]bool
}

func newSequence(pair *harness.Pair) *sequence {
	s := &sequence{pair: pair, runners: map[*harness.Side]*runner{}, seen: map[*harness.Side]map[int64][]string{}, open: map[*harness.Side]map[int64]bool{}}
	for _, side := range pair.Sides() {
		s.runners[side] = newRunner(side)
		s.runners[side].openStream("w", "")
		s.seen[side] = map[int64][]string{}
		s.open[side] = map[int64]bool{}
	}
	// A stream without watches would never answer a progress request.
	pair.Both(func(side *harness.Side) string {
		text, _ := s.one(side, Op{"Watch", &pb.WatchCreateRequest{Key: []byte("none"), WatchId: 1 << 20}})
		return text
	})
	return s
}

func (s *sequence) close() {
	for _, r := range s.runners {
		r.closeStreams()
	}
}

// step runs one operation on both sides and returns etcd's reply.
func (s *sequence) step(op Op) (proto.Message, error) {
	replies := map[*harness.Side]proto.Message{}
	lock := make(chan struct{}, 1)
	etcd, subject := s.pair.Both(func(side *harness.Side) string {
		text, reply := s.one(side, op)
		lock <- struct{}{}
		replies[side] = reply
		<-lock
		return text
	})
	if etcd != subject {
		return nil, &Mismatch{0, op.Verb + " " + prototext.MarshalOptions{}.Format(op.Req), etcd, subject}
	}
	return replies[s.pair.Etcd], nil
}

func (s *sequence) one(side *harness.Side, op Op) (string, proto.Message) {
	r := s.runners[side]
	w := r.streams["w"]
	switch req := op.Req.(type) {
	case *pb.WatchCreateRequest:
		w.call.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}})
		control := s.collect(side, func(m *pb.WatchResponse) bool {
			if m.Created && !m.Canceled {
				s.open[side][m.WatchId] = true
			}
			return m.Created
		})
		// A watch that is still behind when a compaction comes is cancelled,
		// a synced one is not: let it catch up.
		return control + s.sync(side), nil
	case *pb.WatchCancelRequest:
		// Everything before the cancel is to be seen on both.
		before := s.sync(side)
		if !s.open[side][req.WatchId] {
			return before, nil
		}
		delete(s.open[side], req.WatchId)
		w.call.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: req}})
		return before + s.collect(side, func(m *pb.WatchResponse) bool { return m.Canceled }), nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	path, method, err := findMethod(op.Verb)
	if err != nil {
		panic(err)
	}
	text, reply, err := r.invoke(ctx, path, method, op.Req)
	if err != nil {
		panic(err)
	}
	return text, reply
}

// collect reads the watch stream up to a control message, and returns all
// control messages.
func (s *sequence) collect(side *harness.Side, until func(*pb.WatchResponse) bool) string {
	r := s.runners[side]
	w := r.streams["w"]
	var out []string
	for {
		m, ok := w.next(replyTimeout)
		if !ok {
			return strings.Join(append(out, "no message"), "\n")
		}
		if m.err != nil {
			return strings.Join(append(out, r.showMessage(m)), "\n")
		}
		out = append(out, w.check(m.resp)...)
		for _, e := range m.resp.Events {
			s.seen[side][m.resp.WatchId] = append(s.seen[side][m.resp.WatchId], r.showEvent(e))
		}
		if len(m.resp.Events) == 0 && m.resp.WatchId != -1 || m.resp.Canceled {
			out = append(out, r.showMessage(m))
		}
		if until(m.resp) {
			return strings.Join(out, "\n")
		}
	}
}

// sync asks for progress until it is answered, so that all events of the past
// are seen. A request that meets a watch still behind is dropped.
func (s *sequence) sync(side *harness.Side) string {
	r := s.runners[side]
	w := r.streams["w"]
	var out []string
	for range 40 {
		w.call.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		for {
			m, ok := w.next(100 * time.Millisecond)
			if !ok {
				break
			}
			if m.err != nil {
				return r.showMessage(m)
			}
			if m.resp.WatchId == -1 && !m.resp.Created {
				return strings.Join(out, "\n")
			}
			out = append(out, w.check(m.resp)...)
			for _, e := range m.resp.Events {
				s.seen[side][m.resp.WatchId] = append(s.seen[side][m.resp.WatchId], r.showEvent(e))
			}
			if len(m.resp.Events) == 0 {
				out = append(out, r.showMessage(m))
			}
		}
	}
	return strings.Join(append(out, "no progress"), "\n")
}

// end compares what the watches saw, the content, and the content after a
// kill.
func (s *sequence) end() error {
	compare := func(what string, f func(*harness.Side) string) error {
		if etcd, subject := s.pair.Both(f); etcd != subject {
			etcd, subject = firstDifference(etcd, subject)
			return &Mismatch{0, what, etcd, subject}
		}
		return nil
	}
	if err := compare("(progress at the end)", func(side *harness.Side) string {
		return s.sync(side)
	}); err != nil {
		return err
	}
	if err := compare("(events seen by the watches)", func(side *harness.Side) string {
		var ids []int64
		for id := range s.seen[side] {
			ids = append(ids, id)
		}
		sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
		var out []string
		for _, id := range ids {
			for _, line := range s.seen[side][id] {
				out = append(out, fmt.Sprintf("watch %d: %s", id, line))
			}
		}
		return strings.Join(out, "\n")
	}); err != nil {
		return err
	}
	content := func(side *harness.Side) string {
		var out []string
		for _, text := range []string{`Range key:"\000" range_end:"\000"`, "HashKV"} {
			out = append(out, s.runners[side].run(Step{Text: text}))
		}
		for id := range int64(7) {
			// The list is by expiry, which a restart moves.
			out = append(out, s.runners[side].run(Step{Text: fmt.Sprintf("LeaseTimeToLive ID:%d keys:true", id)}))
		}
		return strings.Join(out, "\n")
	}
	if err := compare("(content at the end)", content); err != nil {
		return err
	}
	if err := compare("(kill and restart)", func(side *harness.Side) string { return s.runners[side].run(Step{Text: "kill"}) }); err != nil {
		return err
	}
	return compare("(content after a kill)", content)
}

func firstDifference(a, b string) (string, string) {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(la), len(lb)) {
		x, y := "(nothing)", "(nothing)"
		if i < len(la) {
			x = la[i]
		}
		if i < len(lb) {
			y = lb[i]
		}
		if x != y {
			return fmt.Sprintf("line %d: %s", i+1, x), fmt.Sprintf("line %d: %s", i+1, y)
		}
	}
	return a, b
}

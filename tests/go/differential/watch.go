package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// watchStream is an open Watch call, read by a goroutine of its own.
type watchStream struct {
	call     pb.Watch_WatchClient
	cancel   context.CancelFunc
	messages chan watchMessage
	// seen is the last revision delivered to each watch, to check order.
	seen map[int64]int64
	// partial says that the last message of a watch was a fragment.
	partial map[int64]bool
}

type watchMessage struct {
	resp *pb.WatchResponse
	err  error
}

// replyTimeout is how long a message that must come may take.
const replyTimeout = 10 * time.Second

func (r *runner) openStream(name, md string) string {
	ctx, cancel := context.WithCancel(withMetadata(context.Background(), md))
	call, err := pb.NewWatchClient(r.side.Conn).Watch(ctx)
	if err != nil {
		cancel()
		return showError(err)
	}
	w := &watchStream{call: call, cancel: cancel, messages: make(chan watchMessage, 1<<16), seen: map[int64]int64{}, partial: map[int64]bool{}}
	go func() {
		defer close(w.messages)
		for {
			resp, err := call.Recv()
			w.messages <- watchMessage{resp, err}
			if err != nil {
				return
			}
		}
	}()
	if old := r.streams[name]; old != nil {
		old.cancel()
	}
	r.streams[name] = w
	return "opened"
}

func (r *runner) closeStreams() {
	for _, w := range r.streams {
		w.cancel()
	}
	r.streams = map[string]*watchStream{}
}

func (r *runner) watchStep(verb, text string) (string, proto.Message, error) {
	name, rest, err := cutWord(text)
	if err != nil {
		return "", nil, err
	}
	w := r.streams[name]
	if w == nil && verb == "watch" {
		if out := r.openStream(name, ""); out != "opened" {
			return out, nil, nil
		}
		w = r.streams[name]
	}
	if w == nil {
		return "", nil, fmt.Errorf("no open stream %s", name)
	}
	switch verb {
	case "watch":
		create := &pb.WatchCreateRequest{}
		if err := prototext.Unmarshal([]byte(rest), create); err != nil {
			return "", nil, err
		}
		w.call.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
		return r.showNext(w)
	case "send":
		req := &pb.WatchRequest{}
		if err := prototext.Unmarshal([]byte(rest), req); err != nil {
			return "", nil, err
		}
		w.call.Send(req)
		return "sent", nil, nil
	case "reply":
		return r.showNext(w)
	case "quiet":
		ms := 150
		if rest != "" {
			if ms, err = strconv.Atoi(rest); err != nil {
				return "", nil, err
			}
		}
		select {
		case m := <-w.messages:
			return "not quiet: " + r.showMessage(m), nil, nil
		case <-time.After(time.Duration(ms) * time.Millisecond):
			return "quiet", nil, nil
		}
	case "events":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return "", nil, err
		}
		return r.events(w, n), nil, nil
	case "progress":
		return r.progress(w)
	case "close":
		w.call.CloseSend()
		return "half-closed", nil, nil
	default: // cancel
		w.cancel()
		return "cancelled", nil, nil
	}
}

func (w *watchStream) next(timeout time.Duration) (watchMessage, bool) {
	select {
	case m, ok := <-w.messages:
		if !ok {
			return watchMessage{err: io.EOF}, true
		}
		return m, true
	case <-time.After(timeout):
		return watchMessage{}, false
	}
}

func (r *runner) showMessage(m watchMessage) string {
	if errors.Is(m.err, io.EOF) {
		return "the stream ends, OK"
	}
	if m.err != nil {
		return "the stream ends, " + showError(m.err)
	}
	return r.side.Renderer.Render(m.resp)
}

func (r *runner) showNext(w *watchStream) (string, proto.Message, error) {
	m, ok := w.next(replyTimeout)
	if !ok {
		return "no message", nil, nil
	}
	if m.err != nil {
		return r.showMessage(m), nil, nil
	}
	problems := strings.Join(w.check(m.resp), "")
	return r.showMessage(m) + problems, m.resp, nil
}

// events collects n events, however the server batches them, and shows them
// per watch.
func (r *runner) events(w *watchStream, n int) string {
	lines := map[int64][]string{}
	var others []string
	got := 0
	for got < n {
		m, ok := w.next(replyTimeout)
		if !ok {
			others = append(others, fmt.Sprintf("only %d of %d events came", got, n))
			break
		}
		if m.err != nil {
			others = append(others, r.showMessage(m))
			break
		}
		others = append(others, w.check(m.resp)...)
		if len(m.resp.Events) == 0 {
			others = append(others, "among the events: "+r.side.Renderer.Render(m.resp))
		}
		for _, e := range m.resp.Events {
			lines[m.resp.WatchId] = append(lines[m.resp.WatchId], r.showEvent(e))
		}
		got += len(m.resp.Events)
	}
	ids := make([]int64, 0, len(lines))
	for id := range lines {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	var out []string
	for _, id := range ids {
		for _, line := range lines[id] {
			out = append(out, fmt.Sprintf("watch %d: %s", id, line))
		}
	}
	return strings.Join(append(out, others...), "\n")
}

func (r *runner) showEvent(e *mvccpb.Event) string {
	// The default of an enum is not rendered, so the type is written first.
	return e.Type.String() + " " + strings.TrimPrefix(r.side.Renderer.Render(e), "type:DELETE ")
}

// check verifies what holds for every message whatever the batching: order,
// whole revisions, and a header not older than the events.
func (w *watchStream) check(resp *pb.WatchResponse) (problems []string) {
	if len(resp.Events) == 0 {
		return nil
	}
	first, last := resp.Events[0].Kv.ModRevision, int64(0)
	for _, e := range resp.Events {
		if e.Kv.ModRevision < last {
			problems = append(problems, fmt.Sprintf(" VIOLATION: revision %d after %d in one message", e.Kv.ModRevision, last))
		}
		last = e.Kv.ModRevision
	}
	seen := w.seen[resp.WatchId]
	if first < seen || (first == seen && !w.partial[resp.WatchId]) {
		problems = append(problems, fmt.Sprintf(" VIOLATION: watch %d gets revision %d after a message that ended with %d", resp.WatchId, first, seen))
	}
	if resp.Header.GetRevision() < last {
		problems = append(problems, fmt.Sprintf(" VIOLATION: header revision %d below event revision %d", resp.Header.GetRevision(), last))
	}
	w.seen[resp.WatchId], w.partial[resp.WatchId] = last, resp.Fragment
	return problems
}

// progress asks for progress until it is answered: a server may drop the
// request silently while a watch is behind.
func (r *runner) progress(w *watchStream) (string, proto.Message, error) {
	for range 20 {
		w.call.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		m, ok := w.next(500 * time.Millisecond)
		if ok {
			return r.showMessage(m), m.resp, nil
		}
	}
	return "never answered", nil, nil
}

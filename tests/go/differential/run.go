package differential

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"rusd/tests/harness"
)

// callTimeout bounds every call: a server that hangs shows as
// DeadlineExceeded.
const callTimeout = 10 * time.Second

// runner runs the steps of one case on one side.
type runner struct {
	side     *harness.Side
	captured map[string]proto.Message
	streams  map[string]*watchStream
}

func newRunner(side *harness.Side) *runner {
	return &runner{side: side, captured: map[string]proto.Message{}, streams: map[string]*watchStream{}}
}

// A Mismatch says where the two servers differ.
type Mismatch struct {
	Line          int
	Step          string
	Etcd, Subject string
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("line %d: %s\n  etcd: %s\n  rusd: %s", m.Line, m.Step, around(m.Etcd, m.Subject), around(m.Subject, m.Etcd))
}

// around shortens a long text to what surrounds its first difference from
// another.
func around(text, other string) string {
	same := 0
	for same < min(len(text), len(other)) && text[same] == other[same] {
		same++
	}
	from, to := max(0, same-120), min(len(text), same+300)
	if from < 60 {
		from = 0
	}
	out := text[from:to]
	if from > 0 {
		out = "... " + out
	}
	if to < len(text) {
		out += " ..."
	}
	return out
}

// Run runs a case on a pair. Trace gets each step with etcd's result.
func Run(pair *harness.Pair, c *Case, trace func(string)) error {
	runners := map[*harness.Side]*runner{pair.Etcd: newRunner(pair.Etcd), pair.Subject: newRunner(pair.Subject)}
	defer func() {
		for _, r := range runners {
			r.closeStreams()
		}
	}()
	steps := append([]Step{{Text: `Range key:"base"`, Name: "base"}}, c.Steps...)
	for _, step := range steps {
		etcd, subject := pair.Both(func(s *harness.Side) string { return runners[s].run(step) })
		trace(fmt.Sprintf("%s\n    %s", step.Text, strings.ReplaceAll(etcd, "\n", "\n    ")))
		if strings.HasPrefix(etcd, "SCRIPT ERROR") {
			return fmt.Errorf("line %d: %s\n  %s", step.Line, step.Text, etcd)
		}
		for _, want := range step.Expect {
			want = runners[pair.Etcd].substitute(want)
			if !strings.Contains(etcd, want) {
				return fmt.Errorf("line %d: %s\n  etcd itself does not answer what the case expects\n  want: %s\n  etcd: %s", step.Line, step.Text, want, etcd)
			}
		}
		if etcd != subject {
			return &Mismatch{step.Line, step.Text, etcd, subject}
		}
	}
	return finish(pair, runners, trace)
}

// finish leaves nothing alive behind, and compares the whole history.
func finish(pair *harness.Pair, runners map[*harness.Side]*runner, trace func(string)) error {
	etcd, subject := pair.Both(func(s *harness.Side) string { return runners[s].cleanUp() })
	trace("(end)\n    " + etcd)
	if etcd != subject {
		return &Mismatch{0, "(HashKV, and removing all keys, leases and alarms)", etcd, subject}
	}
	return nil
}

func (r *runner) cleanUp() string {
	r.closeStreams()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var out []string
	lease := pb.NewLeaseClient(r.side.Conn)
	if list, err := lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{}); err != nil {
		out = append(out, "leases: "+err.Error())
	} else {
		for _, l := range list.Leases {
			// It may expire at this very moment.
			lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: l.ID})
		}
		out = append(out, fmt.Sprintf("leases: %d", len(list.Leases)))
	}
	maintenance := pb.NewMaintenanceClient(r.side.Conn)
	if alarms, err := maintenance.Alarm(ctx, &pb.AlarmRequest{}); err == nil {
		for _, a := range alarms.Alarms {
			maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: a.MemberID, Alarm: a.Alarm})
		}
	}
	// Where no key is alive, etcd's hash covers what its compaction has not
	// removed yet; so one is.
	for _, text := range []string{`Put key:"last"`, "HashKV", `DeleteRange key:"\000" range_end:"\000"`} {
		out = append(out, r.run(Step{Text: text}))
	}
	return strings.Join(out, "\n")
}

var variable = regexp.MustCompile(`\$([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z_]+)*)([+-]\d+)?`)

// substitute replaces $name, $name.field, $name+1 by this side's values.
func (r *runner) substitute(text string) string {
	return variable.ReplaceAllStringFunc(text, func(m string) string {
		parts := variable.FindStringSubmatch(m)
		msg, ok := r.captured[parts[1]]
		if !ok {
			return m
		}
		path := strings.Split(strings.TrimPrefix(parts[2], "."), ".")
		if parts[2] == "" {
			path = []string{"header", "revision"}
			if f := msg.ProtoReflect().Descriptor().Fields().ByName("ID"); f != nil {
				path = []string{"ID"}
			}
		}
		value, ok := lookup(msg.ProtoReflect(), path)
		if !ok {
			return m
		}
		if parts[3] != "" {
			a, _ := strconv.ParseInt(value, 10, 64)
			b, _ := strconv.ParseInt(parts[3], 10, 64)
			value = strconv.FormatInt(a+b, 10)
		}
		return value
	})
}

func lookup(m protoreflect.Message, path []string) (string, bool) {
	for i, name := range path {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return "", false
		}
		v := m.Get(f)
		if f.IsList() {
			if v.List().Len() == 0 {
				return "", false
			}
			v = v.List().Get(0)
		}
		if i == len(path)-1 {
			return v.String(), true
		}
		m = v.Message()
	}
	return "", false
}

// run runs one step and returns its result as text.
func (r *runner) run(step Step) string {
	out, msg, err := r.do(r.substitute(step.Text))
	if err != nil {
		return "SCRIPT ERROR " + err.Error()
	}
	if step.Name != "" && msg != nil {
		r.captured[step.Name] = msg
		r.nameLease(step.Name, msg)
		out = r.side.Renderer.Render(msg)
	}
	return out
}

// nameLease gives a lease whose id the server chose the name of its capture.
func (r *runner) nameLease(name string, msg proto.Message) {
	if grant, ok := msg.(*pb.LeaseGrantResponse); ok && grant.ID > serverChosen {
		r.side.Renderer.IDs[uint64(grant.ID)] = "$" + name
	}
}

// serverChosen is below every lease id that a server picks, and above all
// that cases give.
const serverChosen = 1 << 32

var metadataPrefix = regexp.MustCompile(`^\[([^\]]*)\]\s*`)

func (r *runner) do(text string) (string, proto.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	md := ""
	if m := metadataPrefix.FindStringSubmatch(text); m != nil {
		md, text = m[1], text[len(m[0]):]
		ctx = withMetadata(ctx, md)
	}
	verb, rest, err := cutWord(text)
	if err != nil {
		return "", nil, err
	}
	if verb == "repeat" {
		out, err := r.repeat(rest)
		return out, nil, err
	}
	rest = expandRepeats(expandOps(rest))
	switch verb {
	case "open":
		return r.openStream(rest, md), nil, nil
	case "watch", "send", "reply", "quiet", "events", "progress", "close", "cancel":
		return r.watchStep(verb, rest)
	case "http":
		return r.http(ctx, rest), nil, nil
	case "gone":
		return r.gone(rest)
	case "sleep":
		ms, err := strconv.Atoi(rest)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return "slept", nil, err
	case "restart":
		return r.restart(func() error { return r.side.Server.Terminate(10 * time.Second) }), nil, nil
	case "kill":
		return r.restart(func() error { r.side.Server.Kill(); return nil }), nil, nil
	case "alive":
		return r.keepAlive(ctx, rest)
	}
	method, fields, err := shorthand(verb, rest)
	if err != nil {
		return "", nil, err
	}
	return r.call(ctx, method, fields)
}

// shorthand translates the short verbs to RPC names with text-format fields.
func shorthand(verb, rest string) (method, fields string, err error) {
	word := func() string {
		if err != nil {
			return ""
		}
		var w string
		w, rest, err = cutWord(rest)
		return w
	}
	switch verb {
	case "put":
		key, value := word(), word()
		return "Put", quoteField("key", key) + quoteField("value", value) + rest, err
	case "get":
		return "Range", quoteField("key", word()) + rest, err
	case "del":
		return "DeleteRange", quoteField("key", word()) + rest, err
	case "prefix":
		key := word()
		return "Range", quoteField("key", key) + quoteField("range_end", prefixEnd(key)) + rest, err
	case "all":
		return "Range", `key:"\000" range_end:"\000" ` + rest, nil
	case "compact":
		return "Compact", "revision:" + word() + " " + rest, err
	case "hash":
		return "HashKV", rest, nil
	case "grant":
		id, ttl := word(), word()
		return "LeaseGrant", "ID:" + id + " TTL:" + ttl, err
	case "revoke":
		return "LeaseRevoke", "ID:" + word(), err
	case "ttl":
		return "LeaseTimeToLive", "ID:" + word() + " " + rest, err
	}
	return verb, rest, nil
}

func (r *runner) repeat(text string) (string, error) {
	count, rest, err := cutWord(text)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return "", err
	}
	var out []string
	for i := range n {
		line := strings.ReplaceAll(rest, "{i}", strconv.Itoa(i))
		line = strings.ReplaceAll(line, "{i:04}", fmt.Sprintf("%04d", i))
		one, _, err := r.do(line)
		if err != nil {
			return "", err
		}
		out = append(out, one)
	}
	return strings.Join(out, "\n"), nil
}

func (r *runner) restart(end func() error) string {
	r.closeStreams()
	if err := end(); err != nil {
		return err.Error()
	}
	if err := r.side.Server.Respawn(); err != nil {
		return err.Error()
	}
	r.side.Conn.ResetConnectBackoff()
	return "serves again"
}

func (r *runner) gone(text string) (string, proto.Message, error) {
	key, rest, err := cutWord(text)
	if err != nil {
		return "", nil, err
	}
	seconds, err := strconv.Atoi(rest)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()
	kv := pb.NewKVClient(r.side.Conn)
	for {
		resp, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
		if err == nil && resp.Count == 0 {
			return "gone", nil, nil
		}
		if ctx.Err() != nil {
			return "still there", nil, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

package ctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rusd/tests/harness"
)

// callTimeout bounds one call of etcdctl.
const callTimeout = 20 * time.Second

// TestCtl runs all cases. Those of a file share a pair of servers, which see
// the same calls and so have the same revisions; after a failure the pair is
// replaced. CTL_TRANSCRIPT=1 prints what etcdctl printed for etcd.
func TestCtl(t *testing.T) {
	cases, err := Load("cases")
	if err != nil {
		t.Fatal(err)
	}
	groups := map[string][]*Case{}
	var order []string
	for _, c := range cases {
		if groups[c.File] == nil {
			order = append(order, c.File)
		}
		groups[c.File] = append(groups[c.File], c)
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var shared *harness.Pair
			defer func() {
				if shared != nil {
					shared.Close()
				}
			}()
			for _, c := range groups[name] {
				t.Run(c.Title, func(t *testing.T) {
					pair := shared
					if c.Fresh || pair == nil {
						if pair, err = harness.StartPair(c.Flags...); err != nil {
							t.Fatal(err)
						}
						if c.Fresh {
							defer pair.Close()
						} else {
							shared = pair
						}
					}
					if err := run(t, pair, c); err != nil {
						t.Errorf("cases/%s.txt, %q: %v", c.File, c.Title, err)
						if !c.Fresh {
							shared.Close()
							shared = nil
						}
					}
				})
			}
		})
	}
}

// player makes the calls of a case on one side.
type player struct {
	side       *harness.Side
	dir        string
	captured   map[string]string
	background map[string]*running
}

type running struct {
	cmd *exec.Cmd
	out lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func run(t *testing.T, pair *harness.Pair, c *Case) error {
	players := map[*harness.Side]*player{}
	for _, side := range pair.Sides() {
		p := &player{side: side, dir: t.TempDir(), captured: map[string]string{}, background: map[string]*running{}}
		defer p.close()
		players[side] = p
	}
	lines := append(c.Lines, Line{Text: `del "" --from-key=true`})
	for _, line := range lines {
		etcd, subject := pair.Both(func(s *harness.Side) string { return players[s].line(line) })
		if os.Getenv("CTL_TRANSCRIPT") != "" {
			t.Logf("%s\n    %s", line.Text, strings.ReplaceAll(etcd, "\n", "\n    "))
		}
		for _, want := range line.Expect {
			if !strings.Contains(etcd, want) {
				return fmt.Errorf("line %d: %s\n  etcd itself does not print what the case expects\n  want: %s\n  etcd: %s", line.Number, line.Text, want, etcd)
			}
		}
		if etcd != subject {
			return fmt.Errorf("line %d: %s\n  etcd: %s\n  rusd: %s", line.Number, line.Text, etcd, subject)
		}
	}
	return nil
}

func (p *player) close() {
	for _, r := range p.background {
		r.cmd.Process.Kill()
		r.cmd.Wait()
	}
}

var hexNumber = regexp.MustCompile(`\b[0-9a-f]{8,16}\b`)

func (p *player) line(line Line) string {
	text := os.Expand(line.Text, func(name string) string { return p.captured[name] })
	args, err := words(text)
	if err != nil {
		return err.Error()
	}
	switch args[0] {
	case "sleep":
		ms, _ := strconv.Atoi(args[1])
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return "slept"
	case "background":
		return p.start(args[1], args[2:], line.Input)
	case "until":
		return p.until(args[1], strings.Join(args[2:], " "))
	case "stop":
		return p.stop(args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	cmd := p.command(ctx, args, line.Input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	exit := 0
	if err := cmd.Run(); err != nil {
		var e *exec.ExitError
		if !errors.As(err, &e) {
			return err.Error()
		}
		exit = e.ExitCode()
	}
	if line.Name != "" {
		all := hexNumber.FindAllString(stdout.String(), -1)
		if len(all) > 0 {
			p.captured[line.Name] = all[len(all)-1]
		}
	}
	return p.normalise(fmt.Sprintf("exit %d\n%s\n%s", exit, stdout.String(), stderr.String()))
}

func (p *player) command(ctx context.Context, args, input []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, harness.EtcdctlBin(), append([]string{"--endpoints=" + p.side.Server.ClientURL}, args...)...)
	cmd.Env = append(harness.CleanEnv(), "GRPC_GO_LOG_SEVERITY_LEVEL=fatal")
	cmd.Dir = p.dir
	cmd.WaitDelay = time.Second
	if input != nil {
		cmd.Stdin = strings.NewReader(strings.Join(input, "\n") + "\n")
	}
	return cmd
}

func (p *player) start(name string, args, input []string) string {
	r := &running{cmd: p.command(context.Background(), args, nil)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if input != nil {
		in, err := r.cmd.StdinPipe()
		if err != nil {
			return err.Error()
		}
		// Left open: an interactive call ends with its input.
		go fmt.Fprintln(in, strings.Join(input, "\n"))
	}
	if err := r.cmd.Start(); err != nil {
		return err.Error()
	}
	p.background[name] = r
	return "started"
}

func (p *player) until(name, text string) string {
	r := p.background[name]
	for deadline := time.Now().Add(callTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.Contains(r.out.String(), text) {
			return "printed " + text
		}
	}
	return "never printed " + text + ": " + p.normalise(r.out.String())
}

func (p *player) stop(name string) string {
	r := p.background[name]
	delete(p.background, name)
	r.cmd.Process.Signal(syscall.SIGINT)
	ended := make(chan struct{})
	go func() {
		r.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		r.cmd.Process.Kill()
		<-ended
		return "does not end: " + p.normalise(r.out.String())
	}
	// How often a line comes again, as those of keep-alives do, depends on
	// when it was stopped.
	lines := strings.Split(p.normalise(r.out.String()), "\n")
	return strings.Join(slices.Compact(lines), "\n")
}

// What differs by nature, and its name.
var natural = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`took( =)? [0-9.]+(µs|ms|s)`), "took$1 $$TIME"},
	{regexp.MustCompile(`\d+%`), "$$PERCENT"},
	{regexp.MustCompile(`"took":"[^"]*"`), `"took":"$$TIME"`},
	{regexp.MustCompile(`\b3\.7\.\d+\b`), "$$VERSION"},
	{regexp.MustCompile(`\d+(\.\d+)? (kB|MB|GB|B)\b`), "$$SIZE"},
	{regexp.MustCompile(`("?(?i:dbsize|dbsizeinuse|raft_?term|raft_?index|raft_?applied_?index)"?) ?: ?\d+`), "$1: $$NUMBER"},
	{regexp.MustCompile(`\b[0-9a-f]{12,16}\b`), "$$LEASE"},
	{regexp.MustCompile(`remaining\(\d+s?\)`), "remaining($$DURATION)"},
	{regexp.MustCompile(`"ttl":\d+,"granted`), `"ttl":$$DURATION,"granted`},
	{regexp.MustCompile(`"TTL" : \d+`), `"TTL" : $$DURATION`},
	{regexp.MustCompile(`"ts":"[^"]*"`), `"ts":"$$TIME"`},
	{regexp.MustCompile(`"target":"etcd-endpoints://[^"]*"`), `"target":"$$TARGET"`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "$$ADDRESS"},
	{regexp.MustCompile(`-{2,}|─{2,}`), "--"},
	{regexp.MustCompile(` {2,}`), " "},
}

func (p *player) normalise(text string) string {
	for from, to := range p.side.Renderer.Text {
		text = strings.ReplaceAll(text, from, to)
	}
	for id, name := range p.side.Renderer.IDs {
		text = strings.ReplaceAll(text, strconv.FormatUint(id, 10), name)
		text = strings.ReplaceAll(text, strconv.FormatUint(id, 16), name)
	}
	for name, value := range p.captured {
		text = strings.ReplaceAll(text, value, "$"+name)
		if n, err := strconv.ParseUint(value, 16, 64); err == nil {
			text = strings.ReplaceAll(text, strconv.FormatUint(n, 10), "$"+name)
		}
	}
	for _, n := range natural {
		text = n.pattern.ReplaceAllString(text, n.name)
	}
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

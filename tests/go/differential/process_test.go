package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"rusd/tests/harness"
)

// programs are the two servers, by label.
func programs() map[string]string {
	return map[string]string{"etcd": harness.EtcdBin(), "rusd": harness.SubjectBin()}
}

// attempt starts a program in a directory of its own and says how it ends:
// its exit code, or that it still runs and answers or not.
func attempt(t *testing.T, bin string, args, env []string) (outcome, output string) {
	t.Helper()
	dir := t.TempDir()
	ports, err := harness.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	expand := strings.NewReplacer("@DIR", dir, "@CLIENT", fmt.Sprintf("http://127.0.0.1:%d", ports[0]), "@PEER", fmt.Sprintf("http://127.0.0.1:%d", ports[1]), "@PORT", fmt.Sprint(ports[0]))
	for _, list := range []*[]string{&args, &env} {
		expanded := []string{}
		for _, s := range *list {
			expanded = append(expanded, expand.Replace(s))
		}
		*list = expanded
	}
	for i, arg := range args {
		if body, ok := strings.CutPrefix(arg, "FILE:"); ok {
			path := filepath.Join(dir, "config.yaml")
			if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
				t.Fatal(err)
			}
			args[i] = "--config-file=" + path
		}
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if err == nil {
				return "exit 0", out.String()
			} else if errors.As(err, &exit) {
				return fmt.Sprintf("exit %d", exit.ExitCode()), out.String()
			}
			return err.Error(), out.String()
		case <-deadline:
			cmd.Process.Kill()
			<-ended
			return "runs without answering", out.String()
		case <-time.After(50 * time.Millisecond):
		}
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/health", ports[0]))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				cmd.Process.Kill()
				<-ended
				return "serves", out.String()
			}
		}
	}
}

// full are the flags of a member that can start.
var full = []string{
	"--name=m0", "--data-dir=@DIR/data", "--listen-client-urls=@CLIENT", "--advertise-client-urls=@CLIENT",
	"--listen-peer-urls=@PEER", "--initial-advertise-peer-urls=@PEER", "--initial-cluster=m0=@PEER",
}

func with(more ...string) []string { return append(append([]string{}, full...), more...) }

var versionLine = regexp.MustCompile(`(?m)^etcd Version: 3\.7\.\d+$`)

// TestFlags starts both programs with the same flags and environment, and
// compares whether they serve or how they end.
func TestFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		args, env []string
		want      string
	}{
		{"F-01 version", []string{"--version"}, nil, "exit 0"},
		{"F-01 version with one dash", []string{"-version"}, nil, "exit 0"},
		{"F-01 help", []string{"--help"}, nil, "exit 0"},
		{"F-01 help in short", []string{"-h"}, nil, "exit 0"},
		{"F-01 unknown flag", with("--no-such-flag=1"), nil, "exit 2"},
		{"F-01 not a number", with("--max-txn-ops=many"), nil, "exit 2"},
		{"F-01 stray argument", with("stray"), nil, "exit 1"},
		{"F-01 a value after a space", []string{"--name", "m0", "--data-dir", "@DIR/data", "--listen-client-urls", "@CLIENT", "--advertise-client-urls", "@CLIENT", "--listen-peer-urls", "@PEER", "--initial-advertise-peer-urls", "@PEER", "--initial-cluster", "m0=@PEER"}, nil, "serves"},
		{"F-01 one dash", []string{"-name=m0", "-data-dir", "@DIR/data", "-listen-client-urls=@CLIENT", "-advertise-client-urls=@CLIENT", "-listen-peer-urls=@PEER", "-initial-advertise-peer-urls=@PEER", "-initial-cluster=m0=@PEER"}, nil, "serves"},
		{"PR-01 the last one wins", with("--name=nobody", "--name=m0"), nil, "serves"},
		{"PR-01 a bare boolean", with("--strict-reconfig-check"), nil, "serves"},
		{"PR-01 a boolean does not eat the next word", with("--strict-reconfig-check", "false"), nil, "exit 1"},
		{"F-02 everything from the environment", nil, []string{"ETCD_NAME=m0", "ETCD_DATA_DIR=@DIR/data", "ETCD_LISTEN_CLIENT_URLS=@CLIENT", "ETCD_ADVERTISE_CLIENT_URLS=@CLIENT", "ETCD_LISTEN_PEER_URLS=@PEER", "ETCD_INITIAL_ADVERTISE_PEER_URLS=@PEER", "ETCD_INITIAL_CLUSTER=m0=@PEER"}, "serves"},
		{"F-02 an empty variable is unset", with(), []string{"ETCD_MAX_TXN_OPS="}, "serves"},
		{"F-03 a flag and its empty variable", with(), []string{"ETCD_NAME="}, "exit 1"},
		{"PR-02 unknown variables", with(), []string{"ETCD_VERIFY=all", "ETCD_NO_SUCH_THING=1", "ETCD_UNSUPPORTED_ARCH=arm64"}, "serves"},
		{"F-03 a flag and its variable", with(), []string{"ETCD_NAME=m0"}, "exit 1"},
		{"F-07 legacy flags", with("--cluster-active-size=3", "--cluster-remove-delay=1", "--cluster-sync-interval=1", "--max-result-buffer=1", "--max-retry-attempts=1", "--peer-heartbeat-interval=1", "--peer-election-timeout=1", "--retry-interval=1", "--snapshot=true", "--v", "--vv", "--force"), nil, "serves"},
		{"F-08 no advertised URL", []string{"--name=m0", "--data-dir=@DIR/data", "--listen-client-urls=@CLIENT", "--listen-peer-urls=@PEER", "--initial-advertise-peer-urls=@PEER", "--initial-cluster=m0=@PEER"}, nil, "exit 1"},
		{"F-08 a host name to listen on", with("--listen-client-urls=http://example.com:@PORT"), nil, "exit 1"},
		{"F-08 a host name to advertise", with("--advertise-client-urls=http://example.com:@PORT"), nil, "serves"},
		{"F-08 a URL without port", with("--listen-client-urls=http://127.0.0.1"), nil, "exit 2"},
		{"F-08 an unknown scheme", with("--listen-client-urls=ftp://127.0.0.1:@PORT"), nil, "exit 2"},
		{"P-03 https without a certificate", with("--listen-client-urls=https://127.0.0.1:@PORT", "--advertise-client-urls=https://127.0.0.1:@PORT"), nil, "exit 1"},
		{"F-09 the name is not in the cluster", with("--name=stranger"), nil, "exit 1"},
		{"F-09 other peer URLs in the cluster", with("--initial-cluster=m0=http://127.0.0.1:1"), nil, "exit 1"},
		{"V-13 election too short", with("--heartbeat-interval=100", "--election-timeout=400"), nil, "exit 1"},
		{"V-13 election too long", with("--election-timeout=50001"), nil, "exit 1"},
		{"V-13 no heartbeat", with("--heartbeat-interval=0"), nil, "exit 1"},
		{"V-13 five times is enough", with("--heartbeat-interval=100", "--election-timeout=500"), nil, "serves"},
		{"5.6 all known gates", with("--feature-gates=StopGRPCServiceOnDefrag=true,InitialCorruptCheck=true,CompactHashCheck=true,TxnModeWriteWithSharedBuffer=true,LeaseCheckpoint=true,SetMemberLocalAddr=false,FastLeaseKeepAlive=true,PriorityRequest=true"), nil, "serves"},
		{"5.6 gates by group", with("--feature-gates=AllBeta=true,AllAlpha=false"), nil, "serves"},
		{"5.6 an unknown gate", with("--feature-gates=NoSuchGate=true"), nil, "exit 2"},
		{"5.6 a gate that is not a boolean", with("--feature-gates=LeaseCheckpoint=maybe"), nil, "exit 2"},
		{"K-16 kubeadm's flags of a member without TLS", with("--feature-gates=InitialCorruptCheck=true", "--snapshot-count=10000", "--watch-progress-notify-interval=5s"), nil, "serves"},
		{"5.1 storage flags", with("--snapshot-count=5000", "--snapshot-catchup-entries=100", "--backend-bbolt-freelist-type=array", "--backend-batch-interval=50ms", "--backend-batch-limit=100", "--quota-backend-bytes=-1", "--max-wals=3", "--max-snapshots=3"), nil, "serves"},
		{"5.1 limits", with("--max-txn-ops=16", "--max-request-bytes=1000000", "--max-concurrent-streams=100", "--grpc-keepalive-min-time=1s", "--grpc-keepalive-interval=1h", "--grpc-keepalive-timeout=10s"), nil, "serves"},
		{"5.2 compaction by revision", with("--auto-compaction-mode=revision", "--auto-compaction-retention=1000"), nil, "serves"},
		{"5.2 compaction by time", with("--auto-compaction-mode=periodic", "--auto-compaction-retention=10m"), nil, "serves"},
		{"5.2 compaction by hours", with("--auto-compaction-retention=5"), nil, "serves"},
		{"5.2 an unknown compaction mode", with("--auto-compaction-mode=sometimes", "--auto-compaction-retention=5"), nil, "exit 1"},
		{"5.2 a bad retention", with("--auto-compaction-mode=revision", "--auto-compaction-retention=often"), nil, "exit 1"},
		{"5.4 console logs", with("--log-format=console", "--log-level=debug"), nil, "serves"},
		{"5.4 a log level in capitals", with("--log-level=INFO"), nil, "serves"},
		{"5.4 an unknown log level", with("--log-level=chatty"), nil, ""},
		{"5.4 an unknown log format", with("--log-format=xml"), nil, "exit 1"},
		{"5.5 intervals", with("--compaction-batch-limit=100", "--compaction-sleep-interval=1ms", "--compact-hash-check-time=2m", "--warning-apply-duration=200ms", "--corrupt-check-time=0s", "--downgrade-check-time=5s"), nil, "serves"},
		{"5.5 a duration without unit", with("--watch-progress-notify-interval=5"), nil, "exit 2"},
		{"W-15 the shortest progress interval", with("--watch-progress-notify-interval=50ms"), nil, ""},
		{"5.5 no fsync", with("--unsafe-no-fsync"), nil, "serves"},
		{"F-04 a config file", []string{"FILE:name: m0\ndata-dir: @DIR/data\nlisten-client-urls: @CLIENT\nadvertise-client-urls: @CLIENT\nlisten-peer-urls: @PEER\ninitial-advertise-peer-urls: @PEER\ninitial-cluster: m0=@PEER\n"}, nil, "serves"},
		{"F-04 flags beside a config file are ignored", []string{"FILE:name: m0\ndata-dir: @DIR/data\nlisten-client-urls: @CLIENT\nadvertise-client-urls: @CLIENT\nlisten-peer-urls: @PEER\ninitial-advertise-peer-urls: @PEER\ninitial-cluster: m0=@PEER\n", "--name=stranger"}, []string{"ETCD_MAX_TXN_OPS=77"}, "serves"},
		{"F-05 more keys of a config file", []string{"FILE:name: m0\ndata-dir: @DIR/data\nlisten-client-urls: @CLIENT\nadvertise-client-urls: @CLIENT\nlisten-peer-urls: @PEER\ninitial-advertise-peer-urls: @PEER\ninitial-cluster: m0=@PEER\nfeature-gates: LeaseCheckpoint=true\nlog-outputs: [stderr]\nauto-compaction-mode: revision\nauto-compaction-retention: '100'\nheartbeat-interval: 50\nelection-timeout: 500\n"}, nil, "serves"},
		{"F-06 a duration in the file is a number", []string{"FILE:name: m0\ndata-dir: @DIR/data\nlisten-client-urls: @CLIENT\nadvertise-client-urls: @CLIENT\nlisten-peer-urls: @PEER\ninitial-advertise-peer-urls: @PEER\ninitial-cluster: m0=@PEER\nwatch-progress-notify-interval: 600000000000\n"}, nil, "serves"},
		{"F-06 a duration in the file as text", []string{"FILE:name: m0\ndata-dir: @DIR/data\nlisten-client-urls: @CLIENT\nadvertise-client-urls: @CLIENT\nlisten-peer-urls: @PEER\ninitial-advertise-peer-urls: @PEER\ninitial-cluster: m0=@PEER\nwatch-progress-notify-interval: 10m\n"}, nil, "exit 1"},
		{"F-04 a missing config file", []string{"--config-file=@DIR/none.yaml"}, nil, "exit 1"},
		{"F-04 a config file that is not YAML", []string{"FILE:{{{"}, nil, "exit 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			outcomes, outputs := map[string]string{}, map[string]string{}
			for label, bin := range programs() {
				outcomes[label], outputs[label] = attempt(t, bin, c.args, c.env)
			}
			for label, output := range outputs {
				lines := strings.Split(strings.TrimSpace(output), "\n")
				outputs[label] = strings.Join(lines[max(0, len(lines)-4):], "\n")
				if strings.HasPrefix(c.name, "F-01 version") && !versionLine.MatchString(output) {
					t.Errorf("%s prints no version line:\n%s", label, output)
				}
			}
			if c.want != "" && outcomes["etcd"] != c.want {
				t.Errorf("etcd itself: %s, not %s\n%s", outcomes["etcd"], c.want, outputs["etcd"])
			}
			if outcomes["etcd"] != outcomes["rusd"] {
				t.Errorf("etcd: %s\nrusd: %s\n%s", outcomes["etcd"], outcomes["rusd"], outputs["rusd"])
			}
		})
	}
}

// TestLife_PR04_PR05_PR06_PR11_O17_O18 follows one process from start to end: log
// lines, the data directory, a second process on it, SIGTERM.
func TestLife_PR04_PR05_PR06_PR11_O17_O18(t *testing.T) {
	t.Parallel()
	for label, bin := range programs() {
		t.Run(label, func(t *testing.T) {
			srv, err := harness.Start(harness.Options{Bin: bin})
			if err != nil {
				t.Fatal(err)
			}
			defer srv.Close()
			if info, err := os.Stat(srv.DataDir()); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("PR-11: the data directory: %v, %v", info.Mode(), err)
			}
			secondProcess(t, bin, srv)
			before := leaderTerm(t, srv)
			begin := time.Now()
			if err := srv.Terminate(10 * time.Second); err != nil {
				t.Fatal("PR-06:", err)
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("PR-06: the end took %v", took)
			}
			checkLog(t, label, srv)
			if err := srv.Respawn(); err != nil {
				t.Fatal(err)
			}
			if after := leaderTerm(t, srv); after != before+1 {
				t.Errorf("PR-06: the term moved from %d to %d over a restart", before, after)
			}
		})
	}
}

// secondProcess starts a second server on the same data: it waits or fails,
// and the first is unharmed.
func secondProcess(t *testing.T, bin string, first *harness.Server) {
	t.Helper()
	ports, err := harness.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin, "--name=m0", "--data-dir="+first.DataDir(), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=m0="+peer).CombinedOutput()
	if err == nil {
		t.Errorf("PR-11: a second process ended well:\n%s", out)
	}
	if bytes.Contains(out, []byte("ready to serve client requests")) {
		t.Errorf("PR-11: a second process serves the same data")
	}
	conn, err := harness.Dial(first.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := pb.NewKVClient(conn).Put(context.Background(), &pb.PutRequest{Key: []byte("a"), Value: []byte("1")}); err != nil {
		t.Errorf("PR-11: the first process after the second: %v", err)
	}
}

func leaderTerm(t *testing.T, srv *harness.Server) uint64 {
	t.Helper()
	conn, err := harness.Dial(srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	status, err := pb.NewMaintenanceClient(conn).Status(context.Background(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if status.Leader != status.Header.MemberId {
		t.Errorf("the only member is not the leader")
	}
	return status.RaftTerm
}

// checkLog demands JSON from the first line on, with the keys and the lines
// that tools look for.
func checkLog(t *testing.T, label string, srv *harness.Server) {
	t.Helper()
	data, err := os.ReadFile(srv.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("PR-05: line %d is not JSON: %s", i+1, line)
			continue
		}
		for _, key := range []string{"level", "ts", "caller", "msg"} {
			if _, ok := entry[key].(string); !ok {
				t.Errorf("O-17: line %d has no %s: %s", i+1, key, line)
			}
		}
		if _, err := time.Parse("2006-01-02T15:04:05.999999Z0700", fmt.Sprint(entry["ts"])); err != nil {
			t.Errorf("O-17: line %d: %v", i+1, err)
		}
		// etcd logs the end of its own peer listener as an error.
		if entry["level"] == "error" && label == "rusd" && !harness.SelfCheck() {
			t.Errorf("PR-05: an error in a normal life: %s", line)
		}
		seen[fmt.Sprint(entry["msg"])] = true
	}
	for _, want := range []string{"starting an etcd server", "ready to serve client requests", "serving client traffic insecurely; this is strongly discouraged!"} {
		found := false
		for msg := range seen {
			found = found || strings.Contains(msg, want)
		}
		if !found {
			t.Errorf("PR-04, O-17, PR-13: no log line %q", want)
		}
	}
}

// TestSignals_PR03_PR06 ends the servers by SIGINT and compares how they end.
func TestSignals_PR03_PR06(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		how := map[string]string{}
		for label, bin := range programs() {
			how[label] = endBy(t, bin, sig)
		}
		if how["etcd"] != how["rusd"] {
			t.Errorf("%v: etcd ends with %s, rusd with %s", sig, how["etcd"], how["rusd"])
		}
	}
}

func endBy(t *testing.T, bin string, sig syscall.Signal) string {
	t.Helper()
	dir := t.TempDir()
	ports, err := harness.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	cmd := exec.Command(bin, "--name=m0", "--data-dir="+filepath.Join(dir, "data"), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=m0="+peer)
	// PR-03: nothing in the environment but PATH.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		resp, err := http.Get(client + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	cmd.Process.Signal(sig)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		return cmd.ProcessState.String()
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		<-ended
		return "no end"
	}
}

package differential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"rusd/tests/harness"
)

// TestClientSurvivesKill_E05_E07_W20_L11 kills the server under a client that
// watches and keeps a lease alive: both go on after the restart, without a
// lost or repeated event.
func TestClientSurvivesKill_E05_E07_W20_L11(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error {
		grant, err := c.Grant(ctx, 30)
		if err != nil {
			return err
		}
		alive, err := c.KeepAlive(ctx, grant.ID)
		if err != nil {
			return err
		}
		<-alive
		watch := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithPrevKV())
		put := func(i int) error {
			// A write is not retried by the client, so it is retried here,
			// with a value that shows a repeat.
			for {
				_, err := c.Put(ctx, "k", fmt.Sprint(i), clientv3.WithLease(grant.ID))
				if err == nil || ctx.Err() != nil {
					return err
				}
				got, err := c.Get(ctx, "k")
				if err == nil && got.Count == 1 && string(got.Kvs[0].Value) == fmt.Sprint(i) {
					return nil
				}
			}
		}
		for i := range 10 {
			if err := put(i); err != nil {
				return err
			}
		}
		side.Server.Kill()
		if err := side.Server.Respawn(); err != nil {
			return err
		}
		for i := range 10 {
			if err := put(10 + i); err != nil {
				return err
			}
		}
		last := int64(0)
		for n := 0; n < 20; {
			resp, ok := <-watch
			if !ok || resp.Err() != nil {
				return fmt.Errorf("the watch ended: %v", resp.Err())
			}
			for _, e := range resp.Events {
				if e.Kv.ModRevision <= last {
					return fmt.Errorf("revision %d after %d", e.Kv.ModRevision, last)
				}
				last = e.Kv.ModRevision
				l.add("%s at %d", e.Kv.Value, e.Kv.ModRevision)
				n++
			}
		}
		if resp, ok := <-alive; !ok || resp.TTL != 30 {
			return fmt.Errorf("the lease is no longer kept alive: %v", resp)
		}
		return nil
	})
}

// TestTerminateUnderLoad_O11_PR06 terminates the server under writers: every
// acknowledged write is there afterwards, and every error is one that clients
// retry.
func TestTerminateUnderLoad_O11_PR06(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error {
		var mu sync.Mutex
		acknowledged, unexpected := map[string]bool{}, []string{}
		var wg sync.WaitGroup
		kv := pb.NewKVClient(side.Conn)
		for w := range 16 {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("w%d-%d", w, i)
					_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("x")})
					mu.Lock()
					if err == nil {
						acknowledged[key] = true
					} else if text := showError(err); !strings.HasPrefix(text, "ERROR Unavailable") && !strings.HasPrefix(text, "ERROR Canceled") {
						unexpected = append(unexpected, text)
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		begin := time.Now()
		if err := side.Server.Terminate(10 * time.Second); err != nil {
			return err
		}
		took := time.Since(begin)
		wg.Wait()
		if err := side.Server.Respawn(); err != nil {
			return err
		}
		got, err := c.Get(ctx, "w", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		for _, kv := range got.Kvs {
			delete(acknowledged, string(kv.Key))
		}
		sort.Strings(unexpected)
		l.add("%d acknowledged writes are lost", len(acknowledged))
		l.add("errors that clients would not retry: %v", unexpected)
		l.add("ended within three seconds: %v", took < 3*time.Second)
		l.add("wrote something: %v", got.Count > 100)
		return nil
	})
}

// TestManyConnections_K15_K21 has many clients, each with a connection of its
// own, writes of several kilobytes and watches with previous values.
func TestManyConnections_K15_K21(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
		const clients = 60
		var wg sync.WaitGroup
		errs := make(chan error, clients)
		for n := range clients {
			wg.Go(func() {
				c, err := clientv3.New(clientv3.Config{Endpoints: []string{side.Server.ClientURL}, DialKeepAliveTime: 30 * time.Second, DialKeepAliveTimeout: 10 * time.Second, DialTimeout: 20 * time.Second})
				if err != nil {
					errs <- err
					return
				}
				defer c.Close()
				key := fmt.Sprintf("/registry/r%d/", n)
				var watches []clientv3.WatchChan
				for range 5 {
					watches = append(watches, c.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithProgressNotify(), clientv3.WithRev(1)))
				}
				revision := int64(0)
				for i := range 10 {
					resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key+"o"), "=", revision)).
						Then(clientv3.OpPut(key+"o", strings.Repeat(fmt.Sprint(i), 5000))).Else(clientv3.OpGet(key + "o")).Commit()
					if err != nil || !resp.Succeeded {
						errs <- fmt.Errorf("update %d: %v %v", i, resp, err)
						return
					}
					revision = resp.Header.Revision
				}
				for _, w := range watches {
					events := 0
					for events < 10 {
						resp := <-w
						if resp.Err() != nil {
							errs <- resp.Err()
							return
						}
						for _, e := range resp.Events {
							if (e.PrevKv == nil) != (events == 0) {
								errs <- errors.New("a previous value is missing")
								return
							}
							events++
						}
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			return err
		}
		l.add("%d clients were served", clients)
		return nil
	})
}

// TestBursts_L04_V15 sends small messages faster than they are answered: renewals of one stream, then watches on
// several streams of the same connection.
func TestBursts_L04_V15(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
		const renewals, streams, watches = 20_000, 6, 5_000
		conn := side.Conn
		lease, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 100})
		if err != nil {
			return err
		}
		alive, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
		if err != nil {
			return err
		}
		go func() {
			for range renewals {
				if alive.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID}) != nil {
					return
				}
			}
		}()
		for i := range renewals {
			if resp, err := alive.Recv(); err != nil || resp.TTL != 100 {
				return fmt.Errorf("renewal %d: %v %v", i, resp, err)
			}
		}
		l.add("%d renewals", renewals)

		var wg sync.WaitGroup
		errs := make(chan error, streams)
		for range streams {
			wg.Go(func() {
				stream, err := pb.NewWatchClient(conn).Watch(ctx)
				if err != nil {
					errs <- err
					return
				}
				go func() {
					create := &pb.WatchCreateRequest{Key: []byte("a")}
					for range watches {
						if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}) != nil {
							return
						}
					}
				}()
				for i := range watches {
					if resp, err := stream.Recv(); err != nil || !resp.Created || resp.WatchId != int64(i) {
						errs <- fmt.Errorf("watch %d: %v %v", i, resp, err)
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			return err
		}
		l.add("%d watches", streams*watches)
		return nil
	})
}

// TestSlowRequests_G12 logs slow calls, without their values.
func TestSlowRequests_G12(t *testing.T) {
	t.Parallel()
	pair, err := harness.StartPair("--warning-unary-request-duration=1ns", "--warning-apply-duration=1ns")
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	etcd, rusd := pair.Both(func(side *harness.Side) string {
		kv := pb.NewKVClient(side.Conn)
		if _, err := kv.Put(context.Background(), &pb.PutRequest{Key: []byte("slowkey"), Value: []byte("secretvalue")}); err != nil {
			return err.Error()
		}
		for range 100 {
			if log := side.Server.LogTail(200); strings.Contains(log, "request stats") && strings.Contains(log, "apply request took too long") {
				return fmt.Sprintf("logs calls and applies; the key shows: %v; the value shows: %v", strings.Contains(log, "slowkey"), strings.Contains(log, "secretvalue"))
			}
			time.Sleep(20 * time.Millisecond)
		}
		return "does not log\n" + side.Server.LogTail(5)
	})
	if etcd != rusd {
		t.Errorf("etcd: %s\nrusd: %s", etcd, rusd)
	}
}

// TestCompactionLog_PR13 waits for the log line that tools wait for after a
// compaction.
func TestCompactionLog_PR13(t *testing.T) {
	t.Parallel()
	pair, err := harness.StartPair()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	etcd, rusd := pair.Both(func(side *harness.Side) string {
		kv := pb.NewKVClient(side.Conn)
		for range 20 {
			if _, err := kv.Put(context.Background(), &pb.PutRequest{Key: []byte("a")}); err != nil {
				return err.Error()
			}
		}
		if _, err := kv.Compact(context.Background(), &pb.CompactionRequest{Revision: 15}); err != nil {
			return err.Error()
		}
		for range 200 {
			for line := range strings.SplitSeq(side.Server.LogTail(1000), "\n") {
				var entry map[string]any
				if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "finished scheduled compaction" {
					return fmt.Sprintf("finished scheduled compaction at %v, level %v", entry["compact-revision"], entry["level"])
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		return "no line"
	})
	if etcd != rusd {
		t.Errorf("etcd: %s\nrusd: %s", etcd, rusd)
	}
}

// TestStreamLimit_V10 reads the server's limit of concurrent streams.
func TestStreamLimit_V10(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--max-concurrent-streams=77"}} {
		onBoth(t, fmt.Sprint("streams with ", flags), func(addr string) string {
			c, err := dialRaw(addr)
			if err != nil {
				return err.Error()
			}
			defer c.Close()
			c.SetReadDeadline(time.Now().Add(5 * time.Second))
			for {
				frame, err := c.framer.ReadFrame()
				if err != nil {
					return err.Error()
				}
				if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
					// No setting means no limit, as does the greatest number.
					limit, ok := s.Value(http2.SettingMaxConcurrentStreams)
					if !ok {
						limit = 1<<32 - 1
					}
					return fmt.Sprint(limit)
				}
			}
		}, flags...)
	}
}

// TestFewDescriptors_V11 starts the servers with too few file descriptors.
func TestFewDescriptors_V11(t *testing.T) {
	t.Parallel()
	outcomes := map[string]string{}
	for label, bin := range programs() {
		dir := t.TempDir()
		script := filepath.Join(dir, "limited")
		if err := os.WriteFile(script, []byte("#!/bin/sh\nulimit -n 140\nexec "+bin+" \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		outcomes[label], _ = attempt(t, script, with(), nil)
	}
	if outcomes["etcd"] != outcomes["rusd"] {
		t.Errorf("etcd: %s, rusd: %s", outcomes["etcd"], outcomes["rusd"])
	}
}

// TestHosts_P06_P07 checks the host whitelist and the cross-origin headers.
func TestHosts_P06_P07(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--host-whitelist=allowed.example,127.0.0.1"}, {"--cors=http://good.example:80"}} {
		onBoth(t, fmt.Sprint(flags), func(addr string) string {
			out := ""
			for _, r := range []struct{ method, host, origin string }{
				{"GET", "", ""}, {"GET", "allowed.example", ""}, {"GET", "allowed.example:2379", ""}, {"GET", "evil.example", ""},
				{"GET", "", "http://good.example:80"}, {"GET", "", "http://bad.example"}, {"OPTIONS", "", "http://good.example:80"}, {"OPTIONS", "", ""},
			} {
				req, err := http.NewRequest(r.method, "http://"+addr+"/health", nil)
				if err != nil {
					return err.Error()
				}
				req.Host = r.host
				if r.origin != "" {
					req.Header.Set("Origin", r.origin)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err.Error()
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode == http.StatusMisdirectedRequest {
					// How it is worded is each server's own affair.
					body = nil
				}
				out += fmt.Sprintf("\n    %v: %d %q origin %q methods %q headers %q", r, resp.StatusCode, strings.TrimSpace(string(body)), resp.Header.Get("Access-Control-Allow-Origin"),
					resp.Header.Get("Access-Control-Allow-Methods"), resp.Header.Get("Access-Control-Allow-Headers"))
			}
			return strings.ReplaceAll(out, addr, "ADDRESS")
		}, flags...)
	}
}

// TestSplitListeners_P04 serves HTTP on a port of its own.
func TestSplitListeners_P04(t *testing.T) {
	t.Parallel()
	out := map[string]string{}
	for label, bin := range programs() {
		ports, err := harness.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		httpURL := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
		srv, err := harness.Start(harness.Options{Bin: bin, Flags: []string{"--listen-client-http-urls=" + httpURL}})
		if err != nil {
			t.Fatal(label, err)
		}
		defer srv.Close()
		for what, url := range map[string]string{"gRPC port": srv.ClientURL, "HTTP port": httpURL} {
			client := http.Client{Timeout: 3 * time.Second}
			resp, err := client.Get(url + "/health")
			if err == nil {
				resp.Body.Close()
			}
			out[label] += fmt.Sprintf("%s answers /health: %v; ", what, err == nil && resp.StatusCode == 200)
		}
		lines := strings.Split(strings.TrimSuffix(out[label], "; "), "; ")
		sort.Strings(lines)
		out[label] = strings.Join(lines, "; ")
	}
	if out["etcd"] != out["rusd"] {
		t.Errorf("etcd: %s\nrusd: %s", out["etcd"], out["rusd"])
	}
}

// TestUnixSocket_P05 serves on a unix socket beside a port.
func TestUnixSocket_P05(t *testing.T) {
	t.Parallel()
	out := map[string]string{}
	for label, bin := range programs() {
		dir, err := os.MkdirTemp("", "sock")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		socket := filepath.Join(dir, "client.sock")
		ports, err := harness.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		client := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
		srv, err := harness.Launch(harness.Options{Bin: bin, Flags: []string{"--listen-client-urls=" + client + ",unix://" + socket, "--advertise-client-urls=" + client}})
		if err != nil {
			t.Fatal(err)
		}
		defer srv.Close()
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err = pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: []byte("1")}, grpc.WaitForReady(true))
		out[label] = fmt.Sprintf("gRPC: %v", err)
		viaSocket := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
		resp, err := viaSocket.Get("http://socket/health")
		if err == nil {
			resp.Body.Close()
			out[label] += fmt.Sprintf(", HTTP: %d", resp.StatusCode)
		} else {
			out[label] += ", no HTTP"
		}
	}
	if out["etcd"] != out["rusd"] || !strings.Contains(out["etcd"], "gRPC: <nil>") {
		t.Errorf("etcd: %s\nrusd: %s", out["etcd"], out["rusd"])
	}
}

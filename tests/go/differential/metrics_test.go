package differential

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"rusd/tests/harness"
)

// family is one metric family as a scraper sees it.
type family struct {
	kind    string
	labels  []string
	buckets []float64
	samples map[string]string
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"`)
)

func scrape(url string) (map[string]*family, error) {
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d, %v", resp.StatusCode, err)
	}
	families := map[string]*family{}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			families[name] = &family{kind: kind, samples: map[string]string{}}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, suffix); families[name] == nil && families[base] != nil {
				name = base
			}
		}
		f := families[name]
		if f == nil {
			return nil, fmt.Errorf("a sample without a type: %s", line)
		}
		f.samples[m[1]+m[2]] = m[3]
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if pair[1] == "le" {
				if bound := number(pair[2]); !slices.Contains(f.buckets, bound) {
					f.buckets = append(f.buckets, bound)
				}
			} else if !slices.Contains(f.labels, pair[1]) {
				f.labels = append(f.labels, pair[1])
			}
		}
	}
	for _, f := range families {
		slices.Sort(f.labels)
	}
	return families, nil
}

// number reads a value, which may be written in several ways.
func number(text string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

func excludedMetrics(t *testing.T) []string {
	file, err := os.Open("metrics-excluded.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var names []string
	for in := bufio.NewScanner(file); in.Scan(); {
		if fields := strings.Fields(in.Text()); len(fields) > 1 && fields[0] != "#" {
			names = append(names, fields[0])
		}
	}
	return names
}

// callBoth makes the calls of a directory on both.
func callBoth(t *testing.T, pair *harness.Pair, dir string) {
	script, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range script {
		if err := Run(pair, c, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMetrics_P13 compares names, types, labels and buckets of the metrics
// after the same calls on both.
func TestMetrics_P13(t *testing.T) {
	t.Parallel()
	pair, err := harness.StartPair()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	callBoth(t, pair, "testdata/metrics")
	etcd, err := scrape(pair.Etcd.Server.ClientURL)
	if err != nil {
		t.Fatal("etcd:", err)
	}
	rusd, err := scrape(pair.Subject.Server.ClientURL)
	if err != nil {
		t.Fatal("rusd:", err)
	}
	excluded := excludedMetrics(t)
	isExcluded := func(name string) bool {
		return slices.ContainsFunc(excluded, func(e string) bool {
			prefix, wild := strings.CutSuffix(e, "*")
			return e == name || wild && strings.HasPrefix(name, prefix)
		})
	}
	var names []string
	for name := range etcd {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if isExcluded(name) {
			continue
		}
		e, r := etcd[name], rusd[name]
		switch {
		case r == nil:
			t.Errorf("%s is missing (%s, labels %v)", name, e.kind, e.labels)
		case e.kind != r.kind:
			t.Errorf("%s is a %s, not a %s", name, r.kind, e.kind)
		case !slices.Equal(e.labels, r.labels):
			t.Errorf("%s has the labels %v, not %v", name, r.labels, e.labels)
		case !slices.Equal(e.buckets, r.buckets):
			t.Errorf("%s has the buckets %v, not %v", name, r.buckets, e.buckets)
		}
	}
	// Every method and code from the start, at zero: a rule on a rate does not
	// see the first failure of a kind if its series begins with it.
	const handled = "grpc_server_handled_total"
	for sample := range etcd[handled].samples {
		if strings.Contains(sample, `"etcdserverpb.`) && rusd[handled].samples[sample] == "" {
			t.Errorf("no sample %s", sample)
		}
	}
	// Counters and gauges whose value follows from the calls alone.
	for _, sample := range []string{
		"etcd_server_has_leader",
		"etcd_server_is_leader",
		"etcd_server_is_learner",
		"etcd_server_proposals_failed_total",
		"etcd_server_proposals_pending",
		"etcd_server_quota_backend_bytes",
		"etcd_debugging_mvcc_keys_total",
		"etcd_debugging_mvcc_current_revision",
		"etcd_debugging_mvcc_compact_revision",
		"etcd_debugging_lease_granted_total",
		"etcd_debugging_lease_revoked_total",
		"etcd_debugging_lease_renewed_total",
		`etcd_cluster_version{cluster_version="3.7"}`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
		`grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
		`grpc_server_handled_total{grpc_code="NotFound",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
		`grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}`,
		`grpc_server_started_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}`,
		`grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}`,
		`grpc_server_msg_sent_total{grpc_method="RangeStream",grpc_service="etcdserverpb.KV",grpc_type="server_stream"}`,
	} {
		name := strings.SplitN(sample, "{", 2)[0]
		e, r := etcd[name], rusd[name]
		if e == nil || e.samples[sample] == "" {
			t.Errorf("etcd itself has no sample %s", sample)
		} else if r != nil && number(e.samples[sample]) != number(r.samples[sample]) {
			t.Errorf("%s is %q, not %q", sample, r.samples[sample], e.samples[sample])
		}
	}
}

// TestStoreCounters_P13 compares how much the counters of the store rise with
// requests of many kinds.
func TestStoreCounters_P13(t *testing.T) {
	t.Parallel()
	pair, err := harness.StartPair()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	counters := func(url string) map[string]float64 {
		families, err := scrape(url)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		for _, name := range []string{"put", "delete", "range", "txn"} {
			name = "etcd_mvcc_" + name + "_total"
			if f := families[name]; f != nil {
				found[name] = number(f.samples[name])
			}
		}
		return found
	}
	urls := []string{pair.Etcd.Server.ClientURL, pair.Subject.Server.ClientURL}
	var rises [2]map[string]float64
	for i, url := range urls {
		rises[i] = counters(url)
	}
	callBoth(t, pair, "testdata/counters")
	for i, url := range urls {
		for name, after := range counters(url) {
			rises[i][name] = after - rises[i][name]
		}
	}
	for name, etcd := range rises[0] {
		if rusd := rises[1][name]; rusd != etcd || etcd == 0 {
			t.Errorf("%s rises by %v, not %v", name, rusd, etcd)
		}
	}
}

// TestMetricsListener_P15 serves health and metrics, and nothing else, on
// --listen-metrics-urls.
func TestMetricsListener_P15(t *testing.T) {
	t.Parallel()
	results := map[string]string{}
	for label, bin := range map[string]string{"etcd": harness.EtcdBin(), "rusd": harness.SubjectBin()} {
		ports, err := harness.FreePorts(1)
		if err != nil {
			t.Fatal(err)
		}
		url := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
		srv, err := harness.Start(harness.Options{Bin: bin, Flags: []string{"--listen-metrics-urls=" + url}})
		if err != nil {
			t.Fatal(label, err)
		}
		defer srv.Close()
		for _, path := range []string{"/health", "/livez", "/readyz", "/readyz/linearizable_read", "/metrics", "/version", "/v3/kv/range", "/"} {
			resp, err := http.Get(url + path)
			if err != nil {
				results[label] += fmt.Sprintf("%s: %v\n", path, err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if path == "/metrics" {
				body = nil
			}
			results[label] += fmt.Sprintf("%s: %d %s\n", path, resp.StatusCode, body)
		}
		// gRPC is not served there.
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		_, err = c.Get(ctx, "a")
		cancel()
		c.Close()
		results[label] += fmt.Sprintf("gRPC answers: %v\n", err == nil)
	}
	if results["etcd"] != results["rusd"] {
		t.Errorf("etcd:\n%srusd:\n%s", results["etcd"], results["rusd"])
	}
}

// TestMetricsExtensive_P13 has the call durations with --metrics=extensive,
// and only then.
func TestMetricsExtensive_P13(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"basic", "extensive"} {
		pair, err := harness.StartPair("--metrics=" + mode)
		if err != nil {
			t.Fatal(err)
		}
		defer pair.Close()
		etcd, err := scrape(pair.Etcd.Server.ClientURL)
		if err != nil {
			t.Fatal(err)
		}
		rusd, err := scrape(pair.Subject.Server.ClientURL)
		if err != nil {
			t.Fatal(err)
		}
		const name = "grpc_server_handling_seconds"
		e, r := etcd[name], rusd[name]
		if (e != nil) != (mode == "extensive") {
			t.Errorf("--metrics=%s: etcd has %s: %v", mode, name, e != nil)
		}
		if (e != nil) != (r != nil) {
			t.Errorf("--metrics=%s: %s: etcd %v, rusd %v", mode, name, e != nil, r != nil)
		}
		if e != nil && r != nil && (!slices.Equal(e.labels, r.labels) || !slices.Equal(e.buckets, r.buckets)) {
			t.Errorf("%s: etcd %v %v, rusd %v %v", name, e.labels, e.buckets, r.labels, r.buckets)
		}
	}
}

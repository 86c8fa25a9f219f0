package differential

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"rusd/tests/harness"
)

// transcript is what a test in Go saw on one side; both sides' must be equal.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (l *transcript) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// both starts a pair, runs f on each side with the official client, and
// compares what f wrote to the transcript.
func both(t *testing.T, f func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error, flags ...string) {
	t.Parallel()
	t.Helper()
	pair, err := harness.StartPair(flags...)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	logs := map[*harness.Side]*transcript{pair.Etcd: {}, pair.Subject: {}}
	pair.Both(func(side *harness.Side) string {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		l := logs[side]
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{side.Server.ClientURL}, Context: ctx, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
		if err == nil {
			defer c.Close()
			err = f(ctx, side, c, l)
		}
		if err != nil {
			l.add("ends with: %v", err)
			if side == pair.Etcd {
				t.Errorf("etcd: %v", err)
			}
		}
		return ""
	})
	etcd, subject := logs[pair.Etcd].lines, logs[pair.Subject].lines
	if len(etcd) == 0 {
		t.Error("the test compared nothing")
	}
	for i := range max(len(etcd), len(subject)) {
		e, s := "(nothing)", "(nothing)"
		if i < len(etcd) {
			e = etcd[i]
		}
		if i < len(subject) {
			s = subject[i]
		}
		if e != s {
			t.Errorf("differs at %d\n  etcd: %s\n  rusd: %s", i, e, s)
			if !pair.Subject.Server.Alive() {
				t.Errorf("rusd has ended:\n%s", pair.Subject.Server.LogTail(20))
			}
			return
		}
	}
}

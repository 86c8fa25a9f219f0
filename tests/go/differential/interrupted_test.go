package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"rusd/tests/harness"
)

// TestStreamMeetsCompaction_KVS05 compacts what a RangeStream is about to read:
// it gets a part, and then the error.
func TestStreamMeetsCompaction_KVS05(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error {
		const keys = 400
		value := strings.Repeat("x", 32<<10)
		for n := range keys {
			if _, err := c.Put(ctx, fmt.Sprintf("k%04d", n), value); err != nil {
				return err
			}
		}
		// With small windows the server cannot be far ahead of who reads.
		conn, err := grpc.NewClient("passthrough:///"+side.Server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithInitialWindowSize(65535), grpc.WithInitialConnWindowSize(65535), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
		if err != nil {
			return err
		}
		defer conn.Close()
		stream, err := pb.NewKVClient(conn).RangeStream(ctx, &pb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
		if err != nil {
			return err
		}
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		read := first.RangeResponse.Kvs
		put, err := c.Put(ctx, "k0399", "changed")
		if err != nil {
			return err
		}
		if _, err := c.Compact(ctx, put.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			return err
		}
		for {
			next, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				l.add("the stream ended well")
				return nil
			}
			if err != nil {
				l.add("then: %s", showError(err))
				break
			}
			read = append(read, next.RangeResponse.Kvs...)
		}
		for n, kv := range read {
			if string(kv.Key) != fmt.Sprintf("k%04d", n) || string(kv.Value) != value {
				l.add("key %d of the part is %s", n, kv.Key)
			}
		}
		l.add("a part was read: %v", len(read) >= 10 && len(read) < keys)
		return nil
	})
}

// TestInterruptedCompaction_KVC05 kills the server while it removes what was
// compacted: after the restart it goes on where it was.
func TestInterruptedCompaction_KVC05(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error {
		const keys, rounds = 20, 20
		var revision int64
		for n := range keys * rounds {
			put, err := c.Put(ctx, fmt.Sprintf("k%d", n%keys), fmt.Sprint(n))
			if err != nil {
				return err
			}
			revision = put.Header.Revision
		}
		if _, err := c.Compact(ctx, revision); err != nil {
			return err
		}
		finished := func() int { return strings.Count(side.Server.LogTail(1<<20), "finished scheduled compaction") }
		l.add("finished before the kill: %d", finished())
		side.Server.Kill()
		if err := side.Server.Respawn(); err != nil {
			return err
		}
		for finished() == 0 {
			select {
			case <-ctx.Done():
				return errors.New("the removal does not go on")
			case <-time.After(20 * time.Millisecond):
			}
		}
		_, err := c.Get(ctx, "k1", clientv3.WithRev(revision-1))
		l.add("below: %v", err)
		all, err := c.Get(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(revision))
		if err != nil {
			return err
		}
		l.add("%d keys", all.Count)
		hash, err := pb.NewMaintenanceClient(side.Conn).HashKV(ctx, &pb.HashKVRequest{})
		l.add("%s, %v", side.Renderer.Render(hash), err)
		return nil
	}, "--compaction-batch-limit=10", "--compaction-sleep-interval=100ms")
}

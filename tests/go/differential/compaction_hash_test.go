package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"rusd/tests/harness"
)

// TestCompactionHashes_KVC05_M04 compacts a random history again and again, and
// after each compaction asks for HashKV at every revision there ever was: the
// last ten compacted ones are answered with the hash that the compaction kept,
// under the compacted revision before it, the older ones not at all. A restart
// forgets them.
func TestCompactionHashes_KVC05_M04(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
				rnd := rand.New(rand.NewPCG(seed, 4))
				compacted := int64(0)
				for round := range 16 {
					revision, err := writeRandomly(ctx, rnd, pb.NewKVClient(side.Conn))
					if err != nil {
						return err
					}
					compacted += 1 + rnd.Int64N(revision-compacted)
					if rnd.IntN(3) == 0 {
						compacted = revision
					}
					request := &pb.CompactionRequest{Revision: compacted, Physical: true}
					if _, err := pb.NewKVClient(side.Conn).Compact(ctx, request); err != nil {
						return err
					}
					l.add("round %d: compacted at %d of %d", round, compacted, revision)
					hashes(ctx, side, revision, l)
				}
				if err := side.Server.Terminate(10 * time.Second); err != nil {
					return err
				}
				if err := side.Server.Respawn(); err != nil {
					return err
				}
				l.add("after a restart")
				hashes(ctx, side, compacted+20, l)
				return nil
			})
		})
	}
}

// writeRandomly makes some changes and returns the revision they end at, which is above 1.
func writeRandomly(ctx context.Context, rnd *rand.Rand, kv pb.KVClient) (int64, error) {
	key := func() []byte { return fmt.Appendf(nil, "k%d", rnd.IntN(5)) }
	var revision int64
	// The first is a change for certain, so that there is something new to compact.
	for n := range 1 + rnd.IntN(12) {
		put := &pb.PutRequest{Key: key(), Value: fmt.Append(nil, rnd.IntN(100))}
		remove := &pb.DeleteRangeRequest{Key: key()}
		if rnd.IntN(3) == 0 {
			remove.RangeEnd = []byte("k9")
		}
		var header *pb.ResponseHeader
		kind := rnd.IntN(4)
		if n == 0 {
			kind = 0
		}
		switch kind {
		case 0, 1:
			resp, err := kv.Put(ctx, put)
			if err != nil {
				return 0, err
			}
			header = resp.Header
		case 2:
			resp, err := kv.DeleteRange(ctx, remove)
			if err != nil {
				return 0, err
			}
			header = resp.Header
		case 3:
			put.Key = []byte("j")
			resp, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
				{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: remove}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: put}},
			}})
			if err != nil {
				return 0, err
			}
			header = resp.Header
		}
		revision = header.Revision
	}
	return revision, nil
}

// hashes adds HashKV at every revision through one beyond the newest.
func hashes(ctx context.Context, side *harness.Side, revision int64, l *transcript) {
	maintenance := pb.NewMaintenanceClient(side.Conn)
	for at := range revision + 2 {
		resp, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: at})
		if err != nil {
			l.add("at %d: %s", at, showError(err))
		} else {
			l.add("at %d: %s", at, side.Renderer.Render(resp))
		}
	}
}

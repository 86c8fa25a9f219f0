package differential

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"rusd/tests/harness"
)

// TestWhatIsLogged_KVT11_KVR06 makes every kind of call and sees how far the log
// got by it: reads leave it alone, transactions that only read among them, and
// so do calls that validation refuses; what is refused when it is applied is in
// the log.
func TestWhatIsLogged_KVT11_KVR06(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
		kv, lease, maintenance := pb.NewKVClient(side.Conn), pb.NewLeaseClient(side.Conn), pb.NewMaintenanceClient(side.Conn)
		if err := versionDecided(ctx, side); err != nil {
			return err
		}
		index := func() (uint64, error) {
			status, err := maintenance.Status(ctx, &pb.StatusRequest{})
			return status.GetRaftIndex(), err
		}
		get := func(serializable bool) *pb.RequestOp {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("a"), Serializable: serializable}}}
		}
		txn := func(ops ...*pb.RequestOp) func() error {
			return func() error {
				compare := &pb.Compare{Key: []byte("a"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 0}}
				_, err := kv.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{compare}, Success: ops, Failure: ops})
				return err
			}
		}
		put := func(req *pb.PutRequest) func() error {
			return func() error { _, err := kv.Put(ctx, req); return err }
		}
		read := func(serializable bool) func() error {
			return func() error {
				_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("a"), Serializable: serializable})
				return err
			}
		}
		for _, call := range []struct {
			what string
			call func() error
		}{
			{"put", put(&pb.PutRequest{Key: []byte("a")})},
			{"put without a key", put(&pb.PutRequest{})},
			{"put with a lease that is not there", put(&pb.PutRequest{Key: []byte("a"), Lease: 4711})},
			{"range", read(false)},
			{"serializable range", read(true)},
			{"read-only transaction", txn(get(false))},
			{"serializable transaction", txn(get(true))},
			{"half serializable transaction", txn(get(true), get(false))},
			{"transaction of compares", txn()},
			{"nested transaction that reads", txn(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{get(false)}}}})},
			{"transaction that deletes nothing", txn(&pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("nothing")}}})},
			{"delete of nothing", func() error {
				_, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("nothing")})
				return err
			}},
			{"compaction of the future", func() error {
				_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: 1 << 40})
				return err
			}},
			{"grant", func() error { _, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 1000}); return err }},
			{"grant again", func() error { _, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 1000}); return err }},
			{"time to live", func() error { _, err := lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 7}); return err }},
			{"leases", func() error { _, err := lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{}); return err }},
			{"keep alive", func() error {
				stream, err := lease.LeaseKeepAlive(ctx)
				if err == nil {
					err = stream.Send(&pb.LeaseKeepAliveRequest{ID: 7})
				}
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			}},
			{"revoke", func() error { _, err := lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7}); return err }},
			{"revoke again", func() error { _, err := lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7}); return err }},
			{"alarms", func() error { _, err := maintenance.Alarm(ctx, &pb.AlarmRequest{}); return err }},
			{"HashKV", func() error { _, err := maintenance.HashKV(ctx, &pb.HashKVRequest{}); return err }},
			{"members", func() error {
				_, err := pb.NewClusterClient(side.Conn).MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
				return err
			}},
		} {
			before, err := index()
			if err != nil {
				return err
			}
			const times = 5
			var outcome error
			for range times {
				outcome = call.call()
			}
			after, err := index()
			if err != nil {
				return err
			}
			l.add("%s: %d entries for %d calls, the last: %s", call.what, after-before, times, showError(outcome))
		}
		return nil
	})
}

// versionDecided waits until the cluster's version is decided: until then a
// member may still write to the log of its own accord.
func versionDecided(ctx context.Context, side *harness.Side) error {
	for {
		resp, err := http.Get(side.Server.ClientURL + "/version")
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), "not_decided") {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the version is not decided: %s", body)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

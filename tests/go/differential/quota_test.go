package differential

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"rusd/tests/harness"
)

// TestAlarmBeforeRefusal_KVP07_V08_M01 exceeds the quota again and again: whoever
// is told of it finds the alarm raised, at once and every time.
func TestAlarmBeforeRefusal_KVP07_V08_M01(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
		kv, maintenance := pb.NewKVClient(side.Conn), pb.NewMaintenanceClient(side.Conn)
		large := &pb.PutRequest{Key: []byte("k"), Value: []byte(strings.Repeat("x", 4096))}
		put := func() error {
			_, err := kv.Put(ctx, large)
			return err
		}
		txn := func() error {
			_, err := kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: large}}}})
			return err
		}
		// alarms are asked for as soon as a write was refused.
		alarms := func(write func() error) (string, error) {
			refused := write()
			if refused == nil {
				return "", errors.New("the write was taken")
			}
			list, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
			if err != nil {
				return "", err
			}
			// How much fits is each server's own affair.
			list.Header = nil
			return fmt.Sprintf("%s, then alarms %s", showError(refused), side.Renderer.Render(list)), nil
		}
		full := false
		for range 20_000 {
			if full = put() != nil; full {
				break
			}
		}
		if !full {
			return errors.New("the quota does not bind")
		}
		for round := range 50 {
			write := put
			if round%2 == 1 {
				write = txn
			}
			seen, err := alarms(write)
			if err != nil {
				return err
			}
			l.add("round %d: %s", round, seen)
			if _, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: side.Member, Alarm: pb.AlarmType_NOSPACE}); err != nil {
				return err
			}
		}
		// All at once: each finds the alarm, whoever raised it.
		seen := make([]string, 100)
		errs := make([]error, len(seen))
		var wg sync.WaitGroup
		for n := range seen {
			wg.Go(func() { seen[n], errs[n] = alarms(put) })
		}
		wg.Wait()
		for n := range seen {
			l.add("together: %s", seen[n])
		}
		return errors.Join(errs...)
	}, "--quota-backend-bytes=65536")
}

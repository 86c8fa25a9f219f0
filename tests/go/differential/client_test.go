package differential

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"

	"rusd/tests/harness"
)

// The tests of this file use the official client and its recipes, as
// applications do.

// TestClientErrors_E02_E05_K14_G13 checks that the client recognises the errors it has
// names for.
func TestClientErrors_E02_E05_K14_G13(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		_, err := c.Put(ctx, "", "x")
		l.add("empty key: %v", errors.Is(err, rpctypes.ErrEmptyKey))
		_, err = c.Get(ctx, "a", clientv3.WithRev(99))
		l.add("future: %v", errors.Is(err, rpctypes.ErrFutureRev))
		for range 3 {
			if _, err := c.Put(ctx, "a", "1"); err != nil {
				return err
			}
		}
		if _, err := c.Compact(ctx, 3); err != nil {
			return err
		}
		_, err = c.Get(ctx, "a", clientv3.WithRev(2))
		l.add("compacted: %v", errors.Is(err, rpctypes.ErrCompacted))
		_, err = c.Put(ctx, "a", "1", clientv3.WithLease(42))
		l.add("lease: %v", errors.Is(err, rpctypes.ErrLeaseNotFound))
		_, err = c.Revoke(ctx, 42)
		l.add("revoke: %v", errors.Is(err, rpctypes.ErrLeaseNotFound))
		_, err = c.Grant(ctx, 1<<40)
		l.add("ttl: %v", errors.Is(err, rpctypes.ErrLeaseTTLTooLarge))
		_, err = c.KeepAliveOnce(ctx, 42)
		l.add("keepalive: %v", errors.Is(err, rpctypes.ErrLeaseNotFound))
		_, err = c.Put(ctx, "none", "", clientv3.WithIgnoreLease())
		l.add("ignore: %v", errors.Is(err, rpctypes.ErrKeyNotFound))
		_, err = c.Put(ctx, "a", strings.Repeat("x", 1<<21-1000))
		l.add("too large: %v", errors.Is(err, rpctypes.ErrRequestTooLarge))
		_, err = c.MoveLeader(ctx, 42)
		l.add("leader: %v", errors.Is(err, rpctypes.ErrBadLeaderTransferee))
		short, cancel := context.WithTimeout(ctx, time.Nanosecond)
		defer cancel()
		_, err = c.Get(short, "a")
		l.add("deadline: %v", err)
		return nil
	})
}

// TestClientWatch_W21 checks what the client makes of cancelled and
// compacted watches.
func TestClientWatch_W21(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		for i := range 5 {
			if _, err := c.Put(ctx, "a", fmt.Sprint(i)); err != nil {
				return err
			}
		}
		if _, err := c.Compact(ctx, 4); err != nil {
			return err
		}
		for _, rev := range []int64{1, 3, -1} {
			for resp := range c.Watch(ctx, "a", clientv3.WithRev(rev)) {
				l.add("from %d: %v, compacted at %d, cancelled %v", rev, resp.Err(), resp.CompactRevision, resp.Canceled)
			}
		}
		for resp := range c.Watch(ctx, "a", clientv3.WithRange("A")) {
			l.add("empty range: %v", resp.Err())
		}
		live := c.Watch(clientv3.WithRequireLeader(ctx), "a", clientv3.WithRev(4), clientv3.WithPrevKV(), clientv3.WithCreatedNotify(), clientv3.WithFragment())
		events := 0
		for resp := range live {
			if resp.Created {
				l.add("created")
			}
			for _, e := range resp.Events {
				l.add("%s %d %v", e.Type, e.Kv.ModRevision, e.PrevKv)
				events++
			}
			if events == 3 {
				break
			}
		}
		return nil
	}, "--max-txn-ops=10")
}

// TestClientProgress_W16 asks for progress through the client.
func TestClientProgress_W16(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		ch := c.Watch(ctx, "a", clientv3.WithPrefix())
		for i := range 20 {
			if _, err := c.Put(ctx, fmt.Sprintf("b%d", i), "x"); err != nil {
				return err
			}
		}
		for {
			if err := c.RequestProgress(ctx); err != nil {
				return err
			}
			select {
			case resp := <-ch:
				l.add("progress %v at %d", resp.IsProgressNotify(), resp.Header.Revision)
				return nil
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

// TestClientKeepAlive_L04 keeps a lease alive beyond its time, then lets it
// go.
func TestClientKeepAlive_L04(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		grant, err := c.Grant(ctx, 2)
		if err != nil {
			return err
		}
		if _, err := c.Put(ctx, "a", "1", clientv3.WithLease(grant.ID)); err != nil {
			return err
		}
		alive, cancel := context.WithCancel(ctx)
		defer cancel()
		ch, err := c.KeepAlive(alive, grant.ID)
		if err != nil {
			return err
		}
		for range 6 {
			resp := <-ch
			l.add("alive with %d", resp.TTL)
		}
		got, err := c.Get(ctx, "a")
		if err != nil {
			return err
		}
		l.add("still %d key", got.Count)
		cancel()
		for resp := range c.Watch(ctx, "a", clientv3.WithRev(got.Header.Revision+1)) {
			l.add("then %s at %d", resp.Events[0].Type, resp.Events[0].Kv.ModRevision)
			break
		}
		ttl, err := c.TimeToLive(ctx, grant.ID)
		if err != nil {
			return err
		}
		l.add("TTL %d", ttl.TTL)
		return nil
	})
}

// TestClientMutex_L03 has several sessions take a lock in turn.
func TestClientMutex_L03(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		inside, total := 0, 0
		var mu sync.Mutex
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		for range 8 {
			wg.Go(func() {
				s, err := concurrency.NewSession(c, concurrency.WithTTL(10))
				if err != nil {
					errs <- err
					return
				}
				defer s.Close()
				m := concurrency.NewMutex(s, "/lock")
				for range 3 {
					if err := m.Lock(ctx); err != nil {
						errs <- err
						return
					}
					mu.Lock()
					inside++
					if inside != 1 {
						errs <- errors.New("two hold the lock")
					}
					total++
					inside--
					mu.Unlock()
					if err := m.Unlock(ctx); err != nil {
						errs <- err
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
		left, err := c.Get(ctx, "/lock", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		l.add("locked %d times, %d keys left", total, left.Count)
		s, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		first := concurrency.NewMutex(s, "/try")
		if err := first.TryLock(ctx); err != nil {
			return err
		}
		other, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		l.add("second: %v", concurrency.NewMutex(other, "/try").TryLock(ctx))
		// The end of the session's lease frees the lock.
		if err := s.Close(); err != nil {
			return err
		}
		l.add("after the session: %v", concurrency.NewMutex(other, "/try").Lock(ctx))
		return nil
	})
}

// TestClientElection_L03 runs an election with an observer.
func TestClientElection_L03(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		s1, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		s2, err := concurrency.NewSession(c)
		if err != nil {
			return err
		}
		e1, e2 := concurrency.NewElection(s1, "/elect"), concurrency.NewElection(s2, "/elect")
		if err := e1.Campaign(ctx, "one"); err != nil {
			return err
		}
		leader, err := e2.Leader(ctx)
		if err != nil {
			return err
		}
		l.add("leader %s", leader.Kvs[0].Value)
		won := make(chan error, 1)
		go func() { won <- e2.Campaign(ctx, "two") }()
		if err := e1.Proclaim(ctx, "one again"); err != nil {
			return err
		}
		observed := e2.Observe(ctx)
		l.add("observed %s", (<-observed).Kvs[0].Value)
		if err := e1.Resign(ctx); err != nil {
			return err
		}
		if err := <-won; err != nil {
			return err
		}
		l.add("observed %s", (<-observed).Kvs[0].Value)
		l.add("late proclaim: %v", e1.Proclaim(ctx, "late"))
		return nil
	})
}

// TestClientSTM_KVT02 moves amounts between accounts from many goroutines.
func TestClientSTM_KVT02(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		for _, isolation := range []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads} {
			for i := range 4 {
				if _, err := c.Put(ctx, fmt.Sprintf("account%d", i), "100"); err != nil {
					return err
				}
			}
			var wg sync.WaitGroup
			errs := make(chan error, 8)
			for n := range 8 {
				wg.Go(func() {
					for i := range 5 {
						from, to := fmt.Sprintf("account%d", (n+i)%4), fmt.Sprintf("account%d", (n+i+1)%4)
						_, err := concurrency.NewSTM(c, func(stm concurrency.STM) error {
							var a, b int
							fmt.Sscan(stm.Get(from), &a)
							fmt.Sscan(stm.Get(to), &b)
							stm.Put(from, fmt.Sprint(a-1))
							stm.Put(to, fmt.Sprint(b+1))
							return nil
						}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(ctx))
						if err != nil {
							errs <- err
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
			got, err := c.Get(ctx, "account", clientv3.WithPrefix())
			if err != nil {
				return err
			}
			for _, kv := range got.Kvs {
				l.add("%s=%s", kv.Key, kv.Value)
			}
		}
		return nil
	})
}

// TestClientGetStream_KVS11 lists through the client's streaming get.
func TestClientGetStream_KVS11(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		for i := range 150 {
			if _, err := c.Put(ctx, fmt.Sprintf("k%04d", i), strings.Repeat("v", i*20)); err != nil {
				return err
			}
		}
		show := func(opts ...clientv3.OpOption) error {
			ch, err := c.GetStream(ctx, "k", opts...)
			if err != nil {
				l.add("refused: %v", err)
				return nil
			}
			resp, err := clientv3.GetStreamToGetResponse(ch)
			if err != nil {
				l.add("fails: %v", err)
				return nil
			}
			l.add("%d kvs, count %d, more %v, revision %d, last %s", len(resp.Kvs), resp.Count, resp.More, resp.Header.Revision, resp.Kvs[len(resp.Kvs)-1].Key)
			return nil
		}
		for _, opts := range [][]clientv3.OpOption{
			{clientv3.WithPrefix()},
			{clientv3.WithPrefix(), clientv3.WithLimit(17)},
			{clientv3.WithPrefix(), clientv3.WithRev(60)},
			{clientv3.WithPrefix(), clientv3.WithKeysOnly()},
			{clientv3.WithPrefix(), clientv3.WithSerializable()},
			{clientv3.WithPrefix(), clientv3.WithRev(6000)},
			{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend)},
			{clientv3.WithPrefix(), clientv3.WithMinModRev(3)},
		} {
			if err := show(opts...); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestClientWrappers_KVR01 uses the client's namespace, ordering and leasing
// wrappers, and the mirror syncer.
func TestClientWrappers_KVR01(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		ns := namespace.NewKV(c.KV, "ns/")
		if _, err := ns.Put(ctx, "a", "1"); err != nil {
			return err
		}
		watch := namespace.NewWatcher(c.Watcher, "ns/").Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(1))
		txn, err := ns.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1"), clientv3.Compare(clientv3.Version(""), ">", 0).WithPrefix()).
			Then(clientv3.OpPut("b", "2"), clientv3.OpGet("", clientv3.WithPrefix()), clientv3.OpDelete("a", clientv3.WithPrevKV())).Commit()
		if err != nil {
			return err
		}
		l.add("txn %v, %d keys, deleted %s", txn.Succeeded, txn.Responses[1].GetResponseRange().Count, txn.Responses[2].GetResponseDeleteRange().PrevKvs[0].Key)
		for n := 0; n < 3; {
			for _, e := range (<-watch).Events {
				l.add("%s %s", e.Type, e.Kv.Key)
				n++
			}
		}
		ordered := ordering.NewKV(c.KV, ordering.NewOrderViolationSwitchEndpointClosure(c))
		got, err := ordered.Get(ctx, "ns/b", clientv3.WithSerializable())
		if err != nil {
			return err
		}
		l.add("ordered %s", got.Kvs[0].Value)
		lkv, closeLeasing, err := leasing.NewKV(c, "lease/")
		if err != nil {
			return err
		}
		defer closeLeasing()
		for i := range 3 {
			if _, err := lkv.Put(ctx, "owned", fmt.Sprint(i)); err != nil {
				return err
			}
			got, err := lkv.Get(ctx, "owned")
			if err != nil {
				return err
			}
			l.add("leased %s version %d", got.Kvs[0].Value, got.Kvs[0].Version)
		}
		syncer := mirror.NewSyncer(c, "ns/", 0)
		base, errs := syncer.SyncBase(ctx)
		for resp := range base {
			for _, kv := range resp.Kvs {
				l.add("mirrored %s", kv.Key)
			}
		}
		for err := range errs {
			return err
		}
		return nil
	})
}

// TestClientManyOpsAtOnce_KVP01 writes from many goroutines: revisions have
// neither gaps nor repeats, and both servers end in the same state.
func TestClientManyOpsAtOnce_KVP01(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		const writers, writes = 32, 20
		var mu sync.Mutex
		var revisions []int64
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			wg.Go(func() {
				for i := range writes {
					resp, err := c.Put(ctx, fmt.Sprintf("w%02d-%d", w, i%5), fmt.Sprint(i))
					if err != nil {
						errs <- err
						return
					}
					mu.Lock()
					revisions = append(revisions, resp.Header.Revision)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			return err
		}
		sort.Slice(revisions, func(i, j int) bool { return revisions[i] < revisions[j] })
		for i, r := range revisions {
			if r != int64(i+2) {
				return fmt.Errorf("revision %d is missing or repeated (%d found)", i+2, r)
			}
		}
		events := 0
		for resp := range c.Watch(ctx, "w", clientv3.WithPrefix(), clientv3.WithRev(1)) {
			if events += len(resp.Events); events == writers*writes {
				break
			}
		}
		got, err := c.Get(ctx, "w", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range got.Kvs {
			l.add("%s=%s version %d", kv.Key, kv.Value, kv.Version)
		}
		l.add("%d events", events)
		return nil
	})
}

// TestKubernetesClient_K01_K02_K03_K04_K06 uses the interface that the client
// offers to Kubernetes.
func TestKubernetesClient_K01_K02_K03_K04_K06(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
		k, err := kubernetes.New(clientv3.Config{Endpoints: []string{side.Server.ClientURL}, Context: ctx})
		if err != nil {
			return err
		}
		defer k.Close()
		for i := range 30 {
			put, err := k.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("/registry/pods/ns/p%02d", i), []byte("v1"), 0, kubernetes.PutOptions{GetOnFailure: true})
			if err != nil {
				return err
			}
			l.add("created %v at %d", put.Succeeded, put.Revision)
		}
		again, err := k.Kubernetes.OptimisticPut(ctx, "/registry/pods/ns/p03", []byte("v2"), 0, kubernetes.PutOptions{GetOnFailure: true})
		if err != nil {
			return err
		}
		l.add("again %v, there is %v at %d", again.Succeeded, again.KV, again.Revision)
		updated, err := k.Kubernetes.OptimisticPut(ctx, "/registry/pods/ns/p03", []byte("v2"), again.KV.ModRevision, kubernetes.PutOptions{})
		if err != nil {
			return err
		}
		l.add("updated %v at %d", updated.Succeeded, updated.Revision)
		var first int64
		for next := ""; ; {
			page, err := k.Kubernetes.List(ctx, "/registry/pods/", kubernetes.ListOptions{Limit: 8, Continue: next, Revision: first})
			if err != nil {
				return err
			}
			if first == 0 {
				first = page.Revision
			}
			l.add("page of %d, %d from here on, revision %d", len(page.Kvs), page.Count, page.Revision)
			if int64(len(page.Kvs)) == page.Count {
				break
			}
			next = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
			// Others go on writing between the pages.
			if _, err := k.Put(ctx, fmt.Sprintf("/registry/pods/ns/late%d", len(l.lines)), "x"); err != nil {
				return err
			}
		}
		deleted, err := k.Kubernetes.OptimisticDelete(ctx, "/registry/pods/ns/p03", 3, kubernetes.DeleteOptions{GetOnFailure: true})
		if err != nil {
			return err
		}
		l.add("deleted %v, there is %v", deleted.Succeeded, deleted.KV)
		deleted, err = k.Kubernetes.OptimisticDelete(ctx, "/registry/pods/ns/p03", updated.Revision, kubernetes.DeleteOptions{})
		if err != nil {
			return err
		}
		l.add("deleted %v at %d", deleted.Succeeded, deleted.Revision)
		count, err := k.Kubernetes.Count(ctx, "/registry/pods/", kubernetes.CountOptions{})
		if err != nil {
			return err
		}
		got, err := k.Kubernetes.Get(ctx, "/registry/pods/ns/p04", kubernetes.GetOptions{Revision: first})
		if err != nil {
			return err
		}
		l.add("%d left, %v", count, got.KV)
		return nil
	})
}

// TestKubernetesPagingUnderWrites_K04_K05 lists in pages and as a stream while
// writers run: every list is one consistent revision.
func TestKubernetesPagingUnderWrites_K04_K05(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		const objects = 300
		// Each transaction moves one unit between two objects, so that the
		// sum of a consistent list is always the same.
		for i := range objects {
			if _, err := c.Put(ctx, fmt.Sprintf("/registry/o%04d", i), "10"); err != nil {
				return err
			}
		}
		writing, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; writing.Err() == nil; i++ {
					a, b := fmt.Sprintf("/registry/o%04d", (i*7+w*75)%objects), fmt.Sprintf("/registry/o%04d", (i*7+w*75+31)%objects)
					concurrency.NewSTM(c, func(stm concurrency.STM) error {
						var x, y int
						fmt.Sscan(stm.Get(a), &x)
						fmt.Sscan(stm.Get(b), &y)
						stm.Put(a, fmt.Sprint(x-1))
						stm.Put(b, fmt.Sprint(y+1))
						return nil
					}, concurrency.WithAbortContext(writing))
				}
			})
		}
		defer wg.Wait()
		defer stop()
		sum := func(kvs []string) (total int) {
			for _, v := range kvs {
				var n int
				fmt.Sscan(v, &n)
				total += n
			}
			return total
		}
		for range 5 {
			var values []string
			revision, key := int64(0), "/registry/"
			for {
				page, err := c.Get(ctx, key, clientv3.WithRange("/registry0"), clientv3.WithLimit(37), clientv3.WithRev(revision))
				if err != nil {
					return err
				}
				if revision == 0 {
					revision = page.Header.Revision
				}
				if want := int64(objects - len(values)); page.Count != want {
					return fmt.Errorf("a page counts %d, not %d", page.Count, want)
				}
				for _, kv := range page.Kvs {
					values = append(values, string(kv.Value))
				}
				if !page.More {
					break
				}
				key = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
			}
			l.add("paged: %d objects, sum %d", len(values), sum(values))
			ch, err := c.GetStream(ctx, "/registry/", clientv3.WithPrefix())
			if err != nil {
				return err
			}
			list, err := clientv3.GetStreamToGetResponse(ch)
			if err != nil {
				return err
			}
			values = nil
			for _, kv := range list.Kvs {
				values = append(values, string(kv.Value))
			}
			l.add("streamed: %d objects, sum %d", len(values), sum(values))
		}
		return nil
	})
}

// TestKubernetesWatchCache_K08_K09_K20 keeps a copy of a range by list and watch
// while others write, and asks for progress all the while, as a watch cache
// does: at every progress the copy equals a read at that revision.
func TestKubernetesWatchCache_K08_K09_K20(t *testing.T) {
	both(t, func(ctx context.Context, _ *harness.Side, c *clientv3.Client, l *transcript) error {
		cached := map[string]string{}
		list, err := c.Get(ctx, "/registry/", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		watching := clientv3.WithRequireLeader(ctx)
		ch := c.Watch(watching, "/registry/", clientv3.WithPrefix(), clientv3.WithRev(list.Header.Revision+1), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
		var wg sync.WaitGroup
		defer wg.Wait()
		writing, stop := context.WithCancel(ctx)
		defer stop()
		for w := range 4 {
			wg.Go(func() {
				for i := 0; writing.Err() == nil; i++ {
					key := fmt.Sprintf("/registry/o%d", (i+w)%20)
					if i%5 == 4 {
						c.Delete(writing, key)
					} else {
						c.Put(writing, key, fmt.Sprintf("%d-%d", w, i))
					}
				}
			})
		}
		wg.Go(func() {
			for writing.Err() == nil {
				c.RequestProgress(watching)
				time.Sleep(100 * time.Millisecond)
			}
		})
		last := int64(0)
		for progress := 0; progress < 5; {
			resp, ok := <-ch
			if !ok || resp.Err() != nil {
				return fmt.Errorf("the watch ended: %v", resp.Err())
			}
			for _, e := range resp.Events {
				if e.Kv.ModRevision < last {
					return fmt.Errorf("revision %d after %d", e.Kv.ModRevision, last)
				}
				last = e.Kv.ModRevision
				before, known := cached[string(e.Kv.Key)]
				if known != (e.PrevKv != nil) || (known && before != string(e.PrevKv.Value)) {
					return fmt.Errorf("revision %d: previous value %v, the copy has %q", last, e.PrevKv, before)
				}
				if e.Type == clientv3.EventTypeDelete {
					delete(cached, string(e.Kv.Key))
				} else {
					cached[string(e.Kv.Key)] = string(e.Kv.Value)
				}
			}
			if !resp.IsProgressNotify() {
				continue
			}
			progress++
			if resp.Header.Revision < last {
				return fmt.Errorf("progress %d behind event %d", resp.Header.Revision, last)
			}
			last = resp.Header.Revision
			there, err := c.Get(ctx, "/registry/", clientv3.WithPrefix(), clientv3.WithRev(last))
			if err != nil {
				return err
			}
			if int(there.Count) != len(cached) {
				return fmt.Errorf("at revision %d there are %d keys, the copy has %d", last, there.Count, len(cached))
			}
			for _, kv := range there.Kvs {
				if cached[string(kv.Key)] != string(kv.Value) {
					return fmt.Errorf("at revision %d %s is %q, the copy has %q", last, kv.Key, kv.Value, cached[string(kv.Key)])
				}
			}
		}
		l.add("the copy was right at five progress notifications")
		return nil
	})
}

package differential

import (
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rusd/tests/harness"
)

// TestIds_C07 checks both servers' ids against how they are derived.
func TestIds_C07(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"--initial-cluster-token=another"}} {
		pair, err := harness.StartPair(flags...)
		if err != nil {
			t.Fatal(err)
		}
		defer pair.Close()
		token := "etcd-cluster"
		if flags != nil {
			token = "another"
		}
		for _, side := range pair.Sides() {
			sum := sha1.Sum([]byte(side.Server.PeerURL + token))
			member := binary.BigEndian.Uint64(sum[:8])
			sum = sha1.Sum(sum[:8])
			cluster := binary.BigEndian.Uint64(sum[:8])
			list, err := pb.NewClusterClient(side.Conn).MemberList(context.Background(), &pb.MemberListRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if h := list.Header; h.MemberId != member || h.ClusterId != cluster || list.Members[0].ID != member {
				t.Errorf("%s: member %x cluster %x, not %x and %x", side.Label, h.MemberId, h.ClusterId, member, cluster)
			}
		}
	}
}

// TestStatus_M02_M08_K09_K13 compares Status, where sizes and indexes are
// each server's own.
func TestStatus_M02_M08_K09_K13(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error {
		show := func(when string) (*clientv3.StatusResponse, error) {
			s, err := c.Status(ctx, side.Server.ClientURL)
			if err != nil {
				return nil, err
			}
			// Go's protobuf library spaces its text at random.
			alarms := []string{}
			for _, e := range s.Errors {
				alarms = append(alarms, strings.Join(strings.Fields(strings.ReplaceAll(e, fmt.Sprint(s.Header.MemberId), "MEMBER")), " "))
			}
			slices.Sort(alarms)
			version := regexp.MustCompile(`^3\.7\.\d+$`).MatchString(s.Version)
			l.add("%s: version %v, storage %s, leader is self %v, learner %v, errors %q, quota %d, downgrade %v %q, header %s", when, version, s.StorageVersion,
				s.Leader == s.Header.MemberId, s.IsLearner, alarms, s.DbSizeQuota, s.DowngradeInfo.GetEnabled(), s.DowngradeInfo.GetTargetVersion(), side.Renderer.Render((*pb.StatusResponse)(s).Header))
			l.add("%s: in use within the size %v, applied up to committed %v, term %v", when, s.DbSizeInUse <= s.DbSize, s.RaftAppliedIndex <= s.RaftIndex && s.RaftAppliedIndex > 0, s.RaftTerm == s.Header.RaftTerm)
			return s, nil
		}
		// The storage version is written a moment after the start.
		for range 100 {
			if s, err := c.Status(ctx, side.Server.ClientURL); err != nil || s.StorageVersion == "3.7.0" {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		first, err := show("at first")
		if err != nil {
			return err
		}
		for range 50 {
			if _, err := c.Put(ctx, "a", strings.Repeat("x", 10000)); err != nil {
				return err
			}
		}
		second, err := show("after puts")
		if err != nil {
			return err
		}
		l.add("50 writes of 10 kB show in the size: %v", second.DbSize > 20000 && second.DbSizeInUse > 10000)
		l.add("50 writes move the index by 50: %v", second.RaftIndex-first.RaftIndex == 50)
		member := second.Header.MemberId
		if _, err := pb.NewMaintenanceClient(side.Conn).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE}); err != nil {
			return err
		}
		if _, err := show("under an alarm"); err != nil {
			return err
		}
		if _, err := pb.NewMaintenanceClient(side.Conn).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_CORRUPT}); err != nil {
			return err
		}
		_, err = show("under two alarms")
		return err
	})
}

// TestStatusQuota_M02_V08 shows the quota in force.
func TestStatusQuota_M02_V08(t *testing.T) {
	t.Parallel()
	for _, quota := range []string{"0", "-1", "123456789"} {
		pair, err := harness.StartPair("--quota-backend-bytes=" + quota)
		if err != nil {
			t.Fatal(err)
		}
		defer pair.Close()
		etcd, rusd := pair.Both(func(side *harness.Side) string {
			s, err := pb.NewMaintenanceClient(side.Conn).Status(context.Background(), &pb.StatusRequest{})
			return fmt.Sprint(s.GetDbSizeQuota(), err)
		})
		if etcd != rusd {
			t.Errorf("--quota-backend-bytes=%s: etcd %s, rusd %s", quota, etcd, rusd)
		}
	}
}

// TestQuotaRecovery_PR10_O06 fills a small database, and makes room again by
// compaction, defragmentation and disarming.
func TestQuotaRecovery_PR10_O06_M01(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, c *clientv3.Client, l *transcript) error {
		value := strings.Repeat("x", 4096)
		fill := func() error {
			// etcd looks at what its backend has committed, which it does every tenth of a second.
			for range 20_000 {
				if _, err := c.Put(ctx, "filler", value); err != nil {
					l.add("full: %v", err)
					return nil
				}
			}
			return errors.New("20,000 puts of 4 KiB fit into 52 KiB")
		}
		if err := fill(); err != nil {
			return err
		}
		alarms, err := c.AlarmList(ctx)
		if err != nil {
			return err
		}
		l.add("%d alarm", len(alarms.Alarms))
		got, err := c.Get(ctx, "filler")
		if err != nil {
			return err
		}
		if _, err := c.Compact(ctx, got.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			return err
		}
		if _, err := c.Defragment(ctx, side.Server.ClientURL); err != nil {
			return err
		}
		_, err = c.Put(ctx, "still", "blocked")
		l.add("before disarming: %v", err)
		if _, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
			return err
		}
		_, err = c.Put(ctx, "filler", value)
		l.add("after disarming: %v", err)
		return fill()
	}, "--quota-backend-bytes=53248")
}

// TestVersion_P10 waits until the versions are decided and compares the
// answer of /version.
func TestVersion_P10_PR12(t *testing.T) {
	both(t, func(ctx context.Context, side *harness.Side, _ *clientv3.Client, l *transcript) error {
		for {
			resp, err := http.Get(side.Server.ClientURL + "/version")
			if err != nil {
				return err
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				return err
			}
			if !strings.Contains(string(body), "not_decided") && strings.Contains(string(body), `"storage":"3.7`) {
				l.add("%s %s", resp.Header.Get("Content-Type"), etcdVersion.ReplaceAllString(string(body), "3.7.N"))
				return nil
			}
			if ctx.Err() != nil {
				return fmt.Errorf("never decided: %s", body)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// unbuilt are the calls of etcd that rusd answers with Unimplemented until
// what is behind them is built. They are the only ones left out of the
// comparison.
var unbuilt = []string{
	"Snapshot", "Downgrade",
	"MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote",
	"AuthEnable", "AuthDisable",
	"UserAdd", "UserGet", "UserList", "UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole",
	"RoleAdd", "RoleGet", "RoleList", "RoleDelete", "RoleGrantPermission", "RoleRevokePermission",
}

// TestUnbuiltCalls checks that rusd says clearly what it does not have.
func TestUnbuiltCalls(t *testing.T) {
	if harness.SelfCheck() {
		t.Skip("etcd has these calls")
	}
	t.Parallel()
	srv, err := harness.Start(harness.Options{Bin: harness.SubjectBin()})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	conn, err := harness.Dial(srv.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r := newRunner(&harness.Side{Label: "rusd", Server: srv, Conn: conn})
	for _, name := range unbuilt {
		out, _, err := r.call(ctx, name, "")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out, "ERROR Unimplemented: ") || len(out) < len("ERROR Unimplemented: ")+10 {
			t.Errorf("%s: %s", name, out)
		}
	}
}

// TestUnknownMethods_G08 calls methods and services that do not exist.
func TestUnknownMethods(t *testing.T) {
	t.Parallel()
	pair, err := harness.StartPair()
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	for _, path := range []string{"/etcdserverpb.KV/NoSuchMethod", "/no.such.Service/Method", "/v3lockpb.Lock/NoSuchMethod"} {
		etcd, rusd := pair.Both(func(side *harness.Side) string {
			err := side.Conn.Invoke(context.Background(), path, &pb.RangeRequest{}, &pb.RangeResponse{})
			return status.Code(err).String()
		})
		if etcd != codes.Unimplemented.String() || etcd != rusd {
			t.Errorf("%s: etcd %s, rusd %s", path, etcd, rusd)
		}
	}
}

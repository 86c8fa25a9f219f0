package differential

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// An Op is one operation of a random sequence: an RPC with its request, or
// "Watch" with a create or cancel request.
type Op struct {
	Verb string
	Req  proto.Message
}

func (o Op) String() string { return fmt.Sprintf("%s %v", o.Verb, o.Req) }

// generator makes operations that are mostly valid and sometimes not, from a
// small set of keys, so that they meet.
type generator struct {
	rnd *rand.Rand
	// revision and compacted follow the store.
	revision, compacted int64
	watches             int64
}

var randomKeys = []string{"\x00", "a", "aa", "ab", "b", "k", "k1", "k10", "k2", "k3", "l", "\xff", "\xff\xff"}

func (g *generator) chance(percent int) bool { return g.rnd.IntN(100) < percent }

func (g *generator) key() []byte { return []byte(randomKeys[g.rnd.IntN(len(randomKeys))]) }

// keyRange is a key and an end: one key, a prefix, an interval (possibly
// empty), from a key on, or everything.
func (g *generator) keyRange() (key, end []byte) {
	switch g.rnd.IntN(10) {
	case 0, 1, 2:
		return g.key(), nil
	case 3, 4:
		key = g.key()
		return key, []byte(prefixEnd(string(key)))
	case 5, 6, 7:
		return g.key(), g.key()
	case 8:
		return g.key(), []byte{0}
	default:
		return []byte{0}, []byte{0}
	}
}

// anyRevision is a revision to read at: mostly the latest or a readable one,
// sometimes compacted, future or negative.
func (g *generator) anyRevision() int64 {
	low := max(g.compacted-2, -1)
	switch g.rnd.IntN(10) {
	case 0, 1, 2, 3, 4:
		return 0
	default:
		return low + g.rnd.Int64N(g.revision-low+2)
	}
}

func (g *generator) value() []byte {
	switch g.rnd.IntN(12) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{"xyz"[g.rnd.IntN(3)]}, 2000+g.rnd.IntN(2000))
	default:
		return fmt.Appendf(nil, "v%d", g.rnd.IntN(30))
	}
}

func (g *generator) lease() int64 {
	if g.chance(70) {
		return 0
	}
	return 1 + g.rnd.Int64N(6)
}

func (g *generator) bound() int64 {
	if g.chance(75) {
		return 0
	}
	return g.rnd.Int64N(g.revision + 2)
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	key, end := g.keyRange()
	req := &pb.RangeRequest{Key: key, RangeEnd: end, Revision: g.anyRevision(), Serializable: g.chance(20), KeysOnly: g.chance(15), CountOnly: g.chance(10)}
	if g.chance(50) {
		req.Limit = g.rnd.Int64N(7)
	}
	if g.chance(40) {
		req.SortOrder = pb.RangeRequest_SortOrder(g.rnd.IntN(3))
		req.SortTarget = pb.RangeRequest_SortTarget(g.rnd.IntN(5))
		if req.SortTarget == pb.RangeRequest_VALUE || req.SortTarget == pb.RangeRequest_VERSION {
			// Where several keys have the same value or version, the order
			// among them is not defined; a cut would show it.
			req.Limit = 0
			if key, _ := g.keyRange(); req.SortOrder != pb.RangeRequest_NONE {
				req.Key, req.RangeEnd = key, nil
			}
		}
	}
	if g.chance(25) {
		req.MinModRevision, req.MaxModRevision = g.bound(), g.bound()
		req.MinCreateRevision, req.MaxCreateRevision = g.bound(), g.bound()
	}
	return req
}

func (g *generator) put() *pb.PutRequest {
	req := &pb.PutRequest{Key: g.key(), Value: g.value(), Lease: g.lease(), PrevKv: g.chance(30)}
	if g.chance(8) {
		req.IgnoreValue = true
		if g.chance(80) {
			req.Value = nil
		}
	}
	if g.chance(8) {
		req.IgnoreLease = true
		if g.chance(80) {
			req.Lease = 0
		}
	}
	return req
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	key, end := g.keyRange()
	if g.chance(60) {
		end = nil
	}
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: g.chance(30)}
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(g.rnd.IntN(4)), Target: pb.Compare_CompareTarget(g.rnd.IntN(5)), Key: g.key()}
	if g.chance(25) {
		c.Key, c.RangeEnd = g.keyRange()
	}
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.rnd.Int64N(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.bound()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.bound()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.lease()}
	}
	return c
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for range g.rnd.IntN(3) {
		req.Compare = append(req.Compare, g.compare())
	}
	for range g.rnd.IntN(4) {
		req.Success = append(req.Success, g.requestOp(depth))
	}
	for range g.rnd.IntN(4) {
		req.Failure = append(req.Failure, g.requestOp(depth))
	}
	return req
}

func (g *generator) requestOp(depth int) *pb.RequestOp {
	switch n := g.rnd.IntN(10); {
	case n < 4:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 7:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}}
	case n < 9 || depth == 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	default:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}}
	}
}

func (g *generator) watch() *pb.WatchCreateRequest {
	key, end := g.keyRange()
	req := &pb.WatchCreateRequest{Key: key, RangeEnd: end, PrevKv: g.chance(50), Fragment: g.chance(20)}
	// A future watch would hold back the progress that the end waits for.
	if req.StartRevision = g.anyRevision(); req.StartRevision > g.revision {
		req.StartRevision = 0
	}
	// Nor does a watch that compaction has cancelled let progress pass.
	if req.StartRevision > 0 {
		req.StartRevision = max(req.StartRevision, g.compacted)
	}
	if g.chance(20) {
		req.Filters = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_FilterType(g.rnd.IntN(2))}
	}
	return req
}

// next makes the next operation.
func (g *generator) next() Op {
	switch n := g.rnd.IntN(100); {
	case n < 30:
		return Op{"Put", g.put()}
	case n < 48:
		return Op{"Range", g.rangeRequest()}
	case n < 58:
		return Op{"DeleteRange", g.deleteRange()}
	case n < 76:
		req := g.txn(2)
		closeDeletes(req)
		return Op{"Txn", req}
	case n < 80:
		req := g.rangeRequest()
		if g.chance(80) || req.SortOrder == pb.RangeRequest_NONE {
			// A target without an order is accepted by etcd, which then sorts
			// each chunk by itself.
			req.SortOrder, req.SortTarget = 0, 0
			req.MinModRevision, req.MaxModRevision, req.MinCreateRevision, req.MaxCreateRevision = 0, 0, 0, 0
		}
		return Op{"RangeStream", req}
	case n < 83:
		revision := g.compacted + g.rnd.Int64N(max(g.revision-g.compacted, 1)/3+1)
		if g.chance(10) {
			revision = g.revision + g.rnd.Int64N(3)
		}
		// At 0 etcd accepts a first compaction, and thereafter answers a HashKV
		// of revision 0 with that compaction's hash.
		return Op{"Compact", &pb.CompactionRequest{Revision: max(revision, 1), Physical: g.chance(30)}}
	case n < 87:
		return Op{"LeaseGrant", &pb.LeaseGrantRequest{ID: 1 + g.rnd.Int64N(6), TTL: 5000}}
	case n < 89:
		return Op{"LeaseRevoke", &pb.LeaseRevokeRequest{ID: 1 + g.rnd.Int64N(6)}}
	case n < 92:
		return Op{"LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: 1 + g.rnd.Int64N(6), Keys: g.chance(80)}}
	case n < 94:
		revision := g.anyRevision()
		if revision <= g.compacted {
			// There etcd answers with what a compaction has stored, once it
			// has.
			revision = 0
		}
		return Op{"HashKV", &pb.HashKVRequest{Revision: revision}}
	case n < 95:
		return Op{"Defragment", &pb.DefragmentRequest{}}
	case n < 96:
		return Op{"WatchCancel", &pb.WatchCancelRequest{WatchId: g.rnd.Int64N(g.watches + 1)}}
	default:
		g.watches++
		return Op{"Watch", g.watch()}
	}
}

// branches lists all operations of a transaction, nested ones included.
func branches(req *pb.TxnRequest) []*pb.RequestOp {
	var all []*pb.RequestOp
	for _, op := range append(append([]*pb.RequestOp{}, req.Success...), req.Failure...) {
		all = append(all, op)
		if nested := op.GetRequestTxn(); nested != nil {
			all = append(all, branches(nested)...)
		}
	}
	return all
}

// closeDeletes takes the open end off deletes beside puts. etcd does not
// notice that such a delete covers a key that the transaction puts: what then
// becomes of the key depends on what is compacted when, and a put with
// ignore_value or ignore_lease ends etcd.
func closeDeletes(req *pb.TxnRequest) {
	all := branches(req)
	puts := slices.ContainsFunc(all, func(op *pb.RequestOp) bool { return op.GetRequestPut() != nil })
	for _, op := range all {
		if del := op.GetRequestDeleteRange(); puts && del != nil && string(del.RangeEnd) == "\x00" {
			del.RangeEnd = nil
		}
	}
}

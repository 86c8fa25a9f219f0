package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

const (
	pathRange     = "/etcdserverpb.KV/Range"
	pathPut       = "/etcdserverpb.KV/Put"
	pathTxn       = "/etcdserverpb.KV/Txn"
	pathGrant     = "/etcdserverpb.Lease/LeaseGrant"
	pathKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive"
	pathWatch     = "/etcdserverpb.Watch/Watch"
)

// keyDigits is the length of the number in a key; a key is "/bench/" and a
// number, 19 bytes.
const (
	keyPrefix = "/bench/"
	keyDigits = 12
)

func key(n int) []byte { return fmt.Appendf(nil, "%s%0*d", keyPrefix, keyDigits, n) }

// setKey writes a number over the digits of a key.
func setKey(digits []byte, n int) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
}

// template is a marshalled request in which the digits of keys can be
// overwritten in place.
type template struct {
	body   []byte
	digits [][]byte
}

// newTemplate marshals a request that holds key(marker) at the places to be
// overwritten.
func newTemplate(req proto.Message) *template {
	body, err := proto.Marshal(req)
	if err != nil {
		panic(err)
	}
	t := &template{body: body}
	marker := key(marker)
	for i := 0; i+len(marker) <= len(body); i++ {
		if string(body[i:i+len(marker)]) == string(marker) {
			t.digits = append(t.digits, body[i+len(keyPrefix):i+len(marker)])
		}
	}
	return t
}

// marker is the key number that templates are made with.
const marker = 987654321098

func (t *template) with(n int) []byte {
	for _, d := range t.digits {
		setKey(d, n)
	}
	return t.body
}

// fixed sends one kind of request with random keys.
type fixed struct {
	path string
	t    *template
	keys int
}

func (f *fixed) next(rnd *rand.Rand) (string, []byte) { return f.path, f.t.with(rnd.IntN(f.keys)) }
func (f *fixed) done(int)                             {}

func value(size int) []byte {
	v := make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range v {
		v[i] = byte(rnd.Uint32())
	}
	return v
}

func newPut(keys, size int) operation {
	return &fixed{pathPut, newTemplate(&pb.PutRequest{Key: key(marker), Value: value(size)}), keys}
}

func newGet(keys int, serializable bool) operation {
	return &fixed{pathRange, newTemplate(&pb.RangeRequest{Key: key(marker), Serializable: serializable}), keys}
}

// fill puts keys in order, shared by all clients.
type fill struct {
	t       *template
	counter *atomic.Int64
}

func (f *fill) next(*rand.Rand) (string, []byte) {
	return pathPut, f.t.with(int(f.counter.Add(1) - 1))
}
func (f *fill) done(int) {}

// window reads count keys from a random one on: [key, key+count).
type window struct {
	t     *template
	end   []byte
	keys  int
	count int
}

func newWindow(keys, count int) operation {
	t := newTemplate(&pb.RangeRequest{Key: key(marker), RangeEnd: key(marker)})
	return &window{t: t, keys: keys, count: count}
}

func (w *window) next(rnd *rand.Rand) (string, []byte) {
	from := rnd.IntN(max(w.keys-w.count, 1))
	setKey(w.t.digits[0], from)
	setKey(w.t.digits[1], from+w.count)
	return pathRange, w.t.body
}
func (w *window) done(int) {}

// newFirstPage reads the first page of all keys.
func newFirstPage(limit int) operation {
	return &fixed{pathRange, newTemplate(&pb.RangeRequest{Key: []byte(keyPrefix), RangeEnd: []byte("/bench0"), Limit: int64(limit)}), 1}
}

// newLaterPage reads a page from a random key on at a past revision, as a
// client that continues a list does.
func newLaterPage(keys, limit int, revision int64) operation {
	return &fixed{pathRange, newTemplate(&pb.RangeRequest{Key: key(marker), RangeEnd: []byte("/bench0"), Limit: int64(limit), Revision: revision}), keys}
}

// newCompareAndPut is the transaction of an optimistic update. The compare
// holds on whatever is there, so that every one writes.
func newCompareAndPut(keys, size int) operation {
	return &fixed{pathTxn, newTemplate(&pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key(marker), Target: pb.Compare_MOD, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_ModRevision{ModRevision: 0}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key(marker), Value: value(size)}}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key(marker)}}}},
	}), keys}
}

// mixed writes in a share of its operations.
type mixed struct {
	read, write  operation
	writePercent int
}

func (m *mixed) next(rnd *rand.Rand) (string, []byte) {
	if rnd.IntN(100) < m.writePercent {
		return m.write.next(rnd)
	}
	return m.read.next(rnd)
}
func (m *mixed) done(int) {}

// grant grants leases of a time to live in seconds.
type grant struct{ body []byte }

func newGrant(ttl int64) operation {
	body, err := proto.Marshal(&pb.LeaseGrantRequest{TTL: ttl})
	if err != nil {
		panic(err)
	}
	return &grant{body}
}

func (g *grant) next(*rand.Rand) (string, []byte) { return pathGrant, g.body }
func (g *grant) done(int)                         {}

// fields walks the fields of a protobuf message; of length-delimited ones it
// gives the content.
func fields(msg []byte, visit func(number int, content []byte, varint uint64)) {
	for len(msg) > 0 {
		tag, n := binary.Uvarint(msg)
		if n <= 0 {
			return
		}
		msg = msg[n:]
		v, n := binary.Uvarint(msg)
		if n <= 0 {
			return
		}
		msg = msg[n:]
		if tag&7 == 2 {
			if uint64(len(msg)) < v {
				return
			}
			visit(int(tag>>3), msg[:v], 0)
			msg = msg[v:]
		} else {
			visit(int(tag>>3), nil, v)
		}
	}
}

package harness

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Renderer writes a message as one line of text, with what is bound to differ
// between two servers replaced by a name: ids, addresses, the Raft term.
type Renderer struct {
	// IDs are the values of this server that have a name (member, cluster,
	// leases the server chose).
	IDs map[uint64]string
	// Text are strings of this server that have a name (URLs).
	Text map[string]string
}

// unordered are the lists that etcd gives in random order.
var unordered = map[protoreflect.FullName]bool{
	"etcdserverpb.LeaseTimeToLiveResponse.keys": true,
	"etcdserverpb.AlarmResponse.alarms":         true,
}

// longBytes is the length from which a byte string is abbreviated.
const longBytes = 80

// Render writes the message. Presence shows: an absent message is not
// written, an empty one is written as {}.
func (r *Renderer) Render(m proto.Message) string {
	var b strings.Builder
	r.message(&b, m.ProtoReflect())
	return strings.TrimSpace(b.String())
}

func (r *Renderer) message(b *strings.Builder, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		v := m.Get(f)
		if !f.IsList() {
			r.field(b, m, f, v)
			continue
		}
		list := v.List()
		var items []string
		for j := range list.Len() {
			var item strings.Builder
			r.field(&item, m, f, list.Get(j))
			items = append(items, item.String())
		}
		if unordered[f.FullName()] {
			slices.Sort(items)
		}
		b.WriteString(strings.Join(items, ""))
	}
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		fmt.Fprintf(b, " UNKNOWN-FIELDS:%x", []byte(unknown))
	}
}

func (r *Renderer) field(b *strings.Builder, m protoreflect.Message, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	b.WriteByte(' ')
	b.WriteString(string(f.Name()))
	if f.Kind() == protoreflect.MessageKind {
		var inner strings.Builder
		r.message(&inner, v.Message())
		b.WriteString("{" + strings.TrimSpace(inner.String()) + "}")
		return
	}
	b.WriteByte(':')
	switch f.Kind() {
	case protoreflect.BytesKind:
		b.WriteString(Quote(v.Bytes()))
	case protoreflect.StringKind:
		b.WriteString(strconv.Quote(r.text(v.String())))
	case protoreflect.EnumKind:
		if d := f.Enum().Values().ByNumber(v.Enum()); d != nil {
			b.WriteString(string(d.Name()))
		} else {
			fmt.Fprintf(b, "%d", v.Enum())
		}
	case protoreflect.Uint64Kind:
		b.WriteString(r.number(m, f, v.Uint(), strconv.FormatUint(v.Uint(), 10)))
	case protoreflect.Int64Kind:
		b.WriteString(r.number(m, f, uint64(v.Int()), strconv.FormatInt(v.Int(), 10)))
	default:
		b.WriteString(v.String())
	}
}

// number names ids, and hides what the two servers may number differently.
func (r *Renderer) number(m protoreflect.Message, f protoreflect.FieldDescriptor, value uint64, plain string) string {
	switch f.Name() {
	case "raft_term":
		return "TERM"
	case "TTL":
		// The remaining time of a lease counts down while we look.
		granted := m.Descriptor().Fields().ByName("grantedTTL")
		if granted != nil {
			left, full := int64(value), m.Get(granted).Int()
			if left > 0 && left <= full && left >= full-2-full/50 {
				return "NEARLY-GRANTED"
			}
		}
	case "ID", "lease", "cluster_id", "member_id", "memberID", "leader":
		if name, ok := r.IDs[value]; ok {
			return name
		}
	}
	return plain
}

func (r *Renderer) text(s string) string {
	for from, to := range r.Text {
		s = strings.ReplaceAll(s, from, to)
	}
	return s
}

// Quote writes bytes as a quoted string, abbreviated with a checksum when
// long.
func Quote(data []byte) string {
	if len(data) < longBytes {
		return strconv.QuoteToASCII(string(data))
	}
	return fmt.Sprintf("%s...(%d bytes, crc32 %08x)", strconv.QuoteToASCII(string(data[:16])), len(data), crc32.ChecksumIEEE(data))
}

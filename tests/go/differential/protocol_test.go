package differential

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"rusd/tests/harness"
)

// rawConn speaks HTTP/2 frame by frame, for what no client library sends.
type rawConn struct {
	net.Conn
	framer *http2.Framer
	header bytes.Buffer
	enc    *hpack.Encoder
}

func dialRaw(addr string) (*rawConn, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		conn.Close()
		return nil, err
	}
	c := &rawConn{Conn: conn, framer: http2.NewFramer(conn, conn)}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.header)
	return c, c.framer.WriteSettings()
}

// call sends one unary gRPC call on a stream.
func (c *rawConn) call(stream uint32, path string, req proto.Message, headers ...[2]string) error {
	c.header.Reset()
	for _, h := range append([][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}}, headers...) {
		c.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.header.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	body, err := proto.Marshal(req)
	if err != nil {
		return err
	}
	frame := make([]byte, 5, 5+len(body))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(body)))
	return c.framer.WriteData(stream, true, append(frame, body...))
}

// outcome reads until the stream's trailers, a GOAWAY or the end.
func (c *rawConn) outcome(timeout time.Duration) string {
	c.SetReadDeadline(time.Now().Add(timeout))
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return "nothing"
			}
			return "the connection ends"
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.framer.WriteSettingsAck()
			}
		case *http2.GoAwayFrame:
			return fmt.Sprintf("GOAWAY %v %q", f.ErrCode, f.DebugData())
		case *http2.RSTStreamFrame:
			// A server that has answered before it has read the whole request
			// may say so.
			if f.ErrCode != http2.ErrCodeNo {
				return fmt.Sprintf("RST_STREAM %v", f.ErrCode)
			}
		case *http2.MetaHeadersFrame:
			out := ""
			for _, h := range f.Fields {
				if h.Name == "grpc-status" || h.Name == "grpc-message" && h.Value != "" {
					// A message may be percent-encoded.
					text, err := url.PathUnescape(h.Value)
					if err != nil {
						text = h.Value
					}
					out += h.Name + "=" + text + " "
				}
			}
			if out != "" {
				return strings.TrimSpace(out)
			}
		}
	}
}

func onBoth(t *testing.T, what string, f func(addr string) string, flags ...string) {
	t.Helper()
	pair, err := harness.StartPair(flags...)
	if err != nil {
		t.Fatal(err)
	}
	defer pair.Close()
	etcd, rusd := pair.Both(func(side *harness.Side) string { return f(side.Server.Addr) })
	t.Logf("%s: %s", what, etcd)
	if etcd != rusd {
		t.Errorf("%s\n  etcd: %s\n  rusd: %s", what, etcd, rusd)
	}
}

// pings sends PING frames and says how that ends.
func pings(addr string, count int, every time.Duration, withStream bool) string {
	c, err := dialRaw(addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if withStream {
		c.header.Reset()
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.Watch/Watch"}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
			c.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.header.Bytes(), EndHeaders: true})
	}
	ended := make(chan string, 1)
	go func() {
		ended <- c.outcome(time.Duration(count)*every + 2*time.Second)
	}()
	for i := range count {
		time.Sleep(every)
		c.framer.WritePing(false, [8]byte{byte(i)})
	}
	return <-ended
}

// TestKeepAlivePolicy_G09 pings too often, and pings without a stream.
func TestKeepAlivePolicy_G09(t *testing.T) {
	t.Parallel()
	onBoth(t, "pings without a stream", func(addr string) string { return pings(addr, 6, 100*time.Millisecond, false) })
	onBoth(t, "pings too often", func(addr string) string { return pings(addr, 6, 100*time.Millisecond, true) })
	onBoth(t, "pings often enough", func(addr string) string { return pings(addr, 5, 300*time.Millisecond, true) }, "--grpc-keepalive-min-time=200ms")
	onBoth(t, "a ping or two", func(addr string) string { return pings(addr, 2, 100*time.Millisecond, false) })
}

// TestServerPings_G09 expects a PING from a server told to send them soon.
func TestServerPings_G09(t *testing.T) {
	t.Parallel()
	onBoth(t, "an idle connection whose peer does not answer", func(addr string) string {
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		// The first message of a connection must be answered for the server
		// to take it as established.
		c.call(1, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")})
		out := c.outcome(5 * time.Second)
		c.SetReadDeadline(time.Now().Add(8 * time.Second))
		pinged := false
		for {
			frame, err := c.framer.ReadFrame()
			if err != nil {
				ne, timeout := err.(net.Error)
				return fmt.Sprintf("%s; pinged %v; then closed %v", out, pinged, !(timeout && ne.Timeout()))
			}
			if p, ok := frame.(*http2.PingFrame); ok && !p.IsAck() {
				pinged = true
			}
		}
	}, "--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s")
}

// TestClientVersion_G05 sends an api version that is not UTF-8.
func TestClientVersion_G05(t *testing.T) {
	t.Parallel()
	onBoth(t, "client-api-version", func(addr string) string {
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.call(1, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")}, [2]string{"client-api-version", "\xff\xfe"})
		first := c.outcome(5 * time.Second)
		c.call(3, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")}, [2]string{"client-api-version", "3.7"})
		return first + "; " + c.outcome(5*time.Second)
	})
}

// TestBadMessages_G10 sends what is no message.
func TestBadMessages_G10(t *testing.T) {
	t.Parallel()
	// Which code an undecodable message gets is the library's affair.
	refused := func(s string) string {
		if strings.HasPrefix(s, "grpc-status=0") {
			return "answered"
		}
		return "refused"
	}
	onBoth(t, "garbage", func(addr string) string {
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		out := ""
		for i, body := range []string{
			"\x00\x00\x00\x00\x03\xff\xff\xff", // no protobuf
			"\x01\x00\x00\x00\x02\x0a\x00",     // compressed, without an encoding
			"\x00\xff\xff\xff\xff\x0a",         // four gigabytes announced
			"\x00\x00\x00\x00\x05\x0a\x7fabc",  // a field longer than the message
			"",                                 // nothing at all
		} {
			stream := uint32(2*i + 1)
			c.header.Reset()
			for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.KV/Range"}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
				c.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
			}
			c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.header.Bytes(), EndHeaders: true})
			c.framer.WriteData(stream, true, []byte(body))
			out += refused(c.outcome(5*time.Second)) + "; "
		}
		c.call(101, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")})
		return out + c.outcome(5*time.Second)
	})
}

// TestLargeHeaders_G06 sends what tokens and tracing baggage may add up to.
func TestLargeHeaders_G06(t *testing.T) {
	t.Parallel()
	onBoth(t, "headers of 200 KiB", func(addr string) string {
		conn, err := harness.Dial(addr)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, "baggage", strings.Repeat("a", 200<<10))
		_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("a")})
		return fmt.Sprint(err)
	})
}

// TestAbandonedCalls_G13 opens many calls, abandons them at once, and makes another.
func TestAbandonedCalls_G13(t *testing.T) {
	t.Parallel()
	onBoth(t, "calls abandoned in one write", func(addr string) string {
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		var burst bytes.Buffer
		c.framer = http2.NewFramer(&burst, c.Conn)
		c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		const calls = 200
		for i := range uint32(calls) {
			c.call(2*i+1, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")})
			c.framer.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}
		c.call(2*calls+1, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")})
		c.Write(burst.Bytes())
		return c.outcome(5 * time.Second)
	})
}

// TestMessageNeverComes_G13 sends the headers of a call with a deadline, and half of its message.
func TestMessageNeverComes_G13(t *testing.T) {
	t.Parallel()
	// Whether the status or a reset says so is the library's affair: the client has given up by then.
	ended := func(s string) string {
		if s == "RST_STREAM CANCEL" || strings.HasPrefix(s, "grpc-status=4") {
			return "ended at the deadline"
		}
		return s
	}
	onBoth(t, "half a message", func(addr string) string {
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.header.Reset()
		for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.KV/Put"}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}, {"grpc-timeout", "300m"}} {
			c.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.header.Bytes(), EndHeaders: true})
		c.framer.WriteData(1, false, []byte("\x00\x00\x00\x00\x05\x0a"))
		return ended(c.outcome(10 * time.Second))
	})
}

// TestOnePort_P01 speaks both protocols on the client port, and what is
// neither.
func TestOnePort_P01(t *testing.T) {
	t.Parallel()
	onBoth(t, "HTTP/1.1 kept alive, then gRPC", func(addr string) string {
		client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
		out := ""
		for range 3 {
			resp, err := client.Get("http://" + addr + "/health")
			if err != nil {
				return err.Error()
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			out += fmt.Sprint(resp.StatusCode, " ")
		}
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.call(1, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("a")})
		return out + c.outcome(5*time.Second)
	})
	onBoth(t, "an h2c upgrade is not offered", func(addr string) string {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
		line := make([]byte, 12)
		io.ReadFull(conn, line)
		return string(line)
	})
	onBoth(t, "gRPC over plain HTTP/2 at a path that is none", func(addr string) string {
		c, err := dialRaw(addr)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.call(1, "/nothing", &pb.RangeRequest{Key: []byte("a")})
		return strings.Fields(c.outcome(5 * time.Second))[0]
	})
}

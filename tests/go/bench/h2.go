package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The load generator speaks HTTP/2 itself: a gRPC library would cost more
// time on the cores it shares with the server than a fast server does, and
// would measure itself. One goroutine per connection writes requests and reads
// replies, many streams at a time; headers are encoded once.

const (
	// hugeWindow lets the server send as fast as it can.
	hugeWindow = 1<<31 - 1
	frameHead  = 9
)

// conn is one HTTP/2 connection, driven by one goroutine.
type conn struct {
	net    net.Conn
	in     *bufio.Reader
	out    []byte
	enc    *hpack.Encoder
	encBuf blockBuffer
	dec    *hpack.Decoder

	// requestBlocks are header blocks made of indexed fields alone: they can
	// be sent again as they are.
	requestBlocks map[string][]byte
	// replyBlocks are the outcomes of header blocks of indexed fields alone,
	// valid until the next block that is not.
	replyBlocks map[string]replyHeader
	decoded     replyHeader

	nextStream uint32
	// sendWindow is what the connection may still send.
	sendWindow int64
	// received counts bytes to give back to the server's window.
	received int64
	// blocked are requests that wait for the window.
	blocked []request

	handler handler
	payload []byte
	headers []byte
}

// handler is told what arrives on streams.
type handler interface {
	// data gets a part of a stream's reply.
	data(stream uint32, payload []byte)
	// end gets the gRPC status of a stream; 0 is OK.
	end(stream uint32, status int, message string)
}

type request struct {
	path   string
	body   []byte
	stream uint32
	open   bool
}

type replyHeader struct {
	hasStatus bool
	status    int
	message   string
}

type blockBuffer struct{ b []byte }

func (b *blockBuffer) Write(p []byte) (int, error) { b.b = append(b.b, p...); return len(p), nil }

func dial(addr string, h handler) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c := &conn{net: nc, in: bufio.NewReaderSize(nc, 1<<18), requestBlocks: map[string][]byte{}, replyBlocks: map[string]replyHeader{}, nextStream: 1, sendWindow: 65535, handler: h}
	c.enc = hpack.NewEncoder(&c.encBuf)
	c.dec = hpack.NewDecoder(4096, c.field)
	c.out = append(c.out, http2.ClientPreface...)
	c.frame(http2.FrameSettings, 0, 0, 12)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(http2.SettingInitialWindowSize))
	c.out = binary.BigEndian.AppendUint32(c.out, hugeWindow)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(http2.SettingMaxFrameSize))
	c.out = binary.BigEndian.AppendUint32(c.out, 1<<20)
	c.windowUpdate(hugeWindow - 65535)
	if err := c.flush(); err != nil {
		return nil, err
	}
	// The server's settings come first, before anything depends on them.
	return c, c.read()
}

func (c *conn) close() { c.net.Close() }

func (c *conn) frame(kind http2.FrameType, flags http2.Flags, stream uint32, length int) {
	c.out = append(c.out, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	c.out = binary.BigEndian.AppendUint32(c.out, stream)
}

func (c *conn) windowUpdate(n uint32) {
	c.frame(http2.FrameWindowUpdate, 0, 0, 4)
	c.out = binary.BigEndian.AppendUint32(c.out, n)
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.net.Write(c.out)
	c.out = c.out[:0]
	return err
}

// call starts a unary call and returns its stream.
func (c *conn) call(path string, body []byte) uint32 { return c.start(path, body, false) }

// start starts a call; an open one goes on sending later.
func (c *conn) start(path string, body []byte, open bool) uint32 {
	stream := c.nextStream
	c.nextStream += 2
	c.send(request{path: path, body: body, stream: stream, open: open})
	return stream
}

// more sends another message on an open call.
func (c *conn) more(stream uint32, body []byte) {
	c.send(request{body: body, stream: stream, open: true})
}

func (c *conn) send(r request) {
	length := 5 + len(r.body)
	if c.sendWindow < int64(length) {
		r.body = append([]byte{}, r.body...)
		c.blocked = append(c.blocked, r)
		return
	}
	c.sendWindow -= int64(length)
	if r.path != "" {
		block := c.requestBlock(r.path)
		c.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.stream, len(block))
		c.out = append(c.out, block...)
	}
	var flags http2.Flags
	if !r.open {
		flags = http2.FlagDataEndStream
	}
	c.frame(http2.FrameData, flags, r.stream, length)
	c.out = append(c.out, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(r.body)))
	c.out = append(c.out, r.body...)
}

func (c *conn) requestBlock(path string) []byte {
	if block := c.requestBlocks[path]; block != nil {
		return block
	}
	c.encBuf.b = nil
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "bench"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		c.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	if onlyIndexed(c.encBuf.b) {
		c.requestBlocks[path] = c.encBuf.b
	} else {
		// A new entry in the table moves the others.
		clear(c.requestBlocks)
	}
	return c.encBuf.b
}

// onlyIndexed says that a header block has indexed fields alone, each of one
// byte: it neither reads nor changes the state of the compression.
func onlyIndexed(block []byte) bool {
	for _, b := range block {
		if b <= 0x80 || b == 0xff {
			return false
		}
	}
	return true
}

func (c *conn) field(f hpack.HeaderField) {
	switch f.Name {
	case "grpc-status":
		c.decoded.hasStatus = true
		fmt.Sscan(f.Value, &c.decoded.status)
	case "grpc-message":
		c.decoded.message = f.Value
	}
}

func (c *conn) replyHeader(block []byte) (replyHeader, error) {
	pure := onlyIndexed(block)
	if pure {
		if known, ok := c.replyBlocks[string(block)]; ok {
			return known, nil
		}
	} else {
		clear(c.replyBlocks)
	}
	c.decoded = replyHeader{}
	if _, err := c.dec.Write(block); err != nil {
		return c.decoded, err
	}
	if err := c.dec.Close(); err != nil {
		return c.decoded, err
	}
	if pure {
		c.replyBlocks[string(block)] = c.decoded
	}
	return c.decoded, nil
}

// read handles one frame, after sending what is to be sent if it would
// block.
func (c *conn) read() error {
	if c.in.Buffered() < frameHead {
		if err := c.flush(); err != nil {
			return err
		}
	}
	head, err := c.in.Peek(frameHead)
	if err != nil {
		return err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	kind, flags := http2.FrameType(head[3]), http2.Flags(head[4])
	stream := binary.BigEndian.Uint32(head[5:]) & (1<<31 - 1)
	c.in.Discard(frameHead)
	if c.in.Buffered() < length {
		if err := c.flush(); err != nil {
			return err
		}
	}
	if cap(c.payload) < length {
		c.payload = make([]byte, length)
	}
	payload := c.payload[:length]
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return err
	}
	return c.handle(kind, flags, stream, payload)
}

func (c *conn) handle(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) error {
	switch kind {
	case http2.FrameData:
		c.received += int64(len(payload))
		if c.received > 1<<28 {
			c.windowUpdate(uint32(c.received))
			c.received = 0
		}
		if flags.Has(http2.FlagDataPadded) {
			return errors.New("padded data")
		}
		c.handler.data(stream, payload)
		if flags.Has(http2.FlagDataEndStream) {
			c.handler.end(stream, 2, "the reply has no trailers")
		}
	case http2.FrameHeaders, http2.FrameContinuation:
		if flags.Has(http2.FlagHeadersPadded) {
			return errors.New("padded headers")
		}
		if kind == http2.FrameHeaders && flags.Has(http2.FlagHeadersPriority) {
			payload = payload[5:]
		}
		if !flags.Has(http2.FlagHeadersEndHeaders) || kind == http2.FrameContinuation {
			c.headers = append(c.headers, payload...)
			if !flags.Has(http2.FlagHeadersEndHeaders) {
				return nil
			}
			payload = c.headers
			c.headers = nil
		}
		h, err := c.replyHeader(payload)
		if err != nil {
			return err
		}
		if h.hasStatus {
			c.handler.end(stream, h.status, h.message)
		}
	case http2.FrameSettings:
		if flags.Has(http2.FlagSettingsAck) {
			return nil
		}
		for ; len(payload) >= 6; payload = payload[6:] {
			if http2.SettingID(binary.BigEndian.Uint16(payload)) == http2.SettingHeaderTableSize {
				c.enc.SetMaxDynamicTableSizeLimit(binary.BigEndian.Uint32(payload[2:]))
			}
		}
		c.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			c.frame(http2.FramePing, http2.FlagPingAck, 0, len(payload))
			c.out = append(c.out, payload...)
		}
	case http2.FrameWindowUpdate:
		// A single message is far below a stream's own window.
		if stream == 0 {
			c.sendWindow += int64(binary.BigEndian.Uint32(payload) & (1<<31 - 1))
			waiting := c.blocked
			c.blocked = nil
			for i, r := range waiting {
				if c.sendWindow < int64(5+len(r.body)) {
					c.blocked = append(c.blocked, waiting[i:]...)
					break
				}
				c.send(r)
			}
		}
	case http2.FrameRSTStream:
		c.handler.end(stream, 2, fmt.Sprintf("RST_STREAM %v", http2.ErrCode(binary.BigEndian.Uint32(payload))))
	case http2.FrameGoAway:
		return fmt.Errorf("GOAWAY %v %s", http2.ErrCode(binary.BigEndian.Uint32(payload[4:])), payload[8:])
	}
	return nil
}

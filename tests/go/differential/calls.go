package differential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// services are searched in this order for a method.
var services = []protoreflect.FullName{
	"etcdserverpb.KV", "etcdserverpb.Lease", "etcdserverpb.Cluster", "etcdserverpb.Maintenance", "etcdserverpb.Auth", "grpc.health.v1.Health",
}

func findMethod(name string) (path string, method protoreflect.MethodDescriptor, err error) {
	for _, service := range services {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(service)
		if err != nil {
			return "", nil, err
		}
		if m := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name)); m != nil {
			return fmt.Sprintf("/%s/%s", service, name), m, nil
		}
	}
	return "", nil, fmt.Errorf("no such verb or RPC: %s", name)
}

func newMessage(d protoreflect.MessageDescriptor) (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, err
	}
	return t.New().Interface(), nil
}

// call makes a unary or server-streaming RPC with a request in text format.
func (r *runner) call(ctx context.Context, name, fields string) (string, proto.Message, error) {
	path, method, err := findMethod(name)
	if err != nil {
		return "", nil, err
	}
	req, err := newMessage(method.Input())
	if err != nil {
		return "", nil, err
	}
	if err := prototext.Unmarshal([]byte(fields), req); err != nil {
		return "", nil, err
	}
	return r.invoke(ctx, path, method, req)
}

func (r *runner) invoke(ctx context.Context, path string, method protoreflect.MethodDescriptor, req proto.Message) (string, proto.Message, error) {
	if method.IsStreamingServer() {
		return r.stream(ctx, path, method, req)
	}
	resp, err := newMessage(method.Output())
	if err != nil {
		return "", nil, err
	}
	if err := r.side.Conn.Invoke(ctx, path, req, resp); err != nil {
		return showError(err), nil, nil
	}
	return r.side.Renderer.Render(resp), resp, nil
}

// showError writes code and text of a gRPC error.
func showError(err error) string {
	s := status.Convert(err)
	return fmt.Sprintf("ERROR %s: %s", s.Code(), s.Message())
}

// stream reads a server stream to its end. A RangeStream is shown as its
// chunks merged, with the shape of the chunks checked.
func (r *runner) stream(ctx context.Context, path string, method protoreflect.MethodDescriptor, req proto.Message) (string, proto.Message, error) {
	s, err := r.side.Conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path)
	if err != nil {
		return showError(err), nil, nil
	}
	if err := s.SendMsg(req); err != nil {
		return showError(err), nil, nil
	}
	s.CloseSend()
	var chunks []proto.Message
	for {
		resp, err := newMessage(method.Output())
		if err != nil {
			return "", nil, err
		}
		if err = s.RecvMsg(resp); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return showError(err), nil, nil
		}
		chunks = append(chunks, resp)
	}
	if req, ok := req.(*pb.RangeRequest); ok {
		return r.mergeRange(req, chunks)
	}
	var out []string
	for _, c := range chunks {
		out = append(out, r.side.Renderer.Render(c))
	}
	return strings.Join(out, "\n"), nil, nil
}

func (r *runner) mergeRange(req *pb.RangeRequest, chunks []proto.Message) (string, proto.Message, error) {
	merged := &pb.RangeResponse{}
	shape := ""
	for i, c := range chunks {
		one := c.(*pb.RangeStreamResponse).RangeResponse
		last := i == len(chunks)-1
		if !last && (one.Header != nil || one.More || one.Count != 0) {
			shape += fmt.Sprintf(" VIOLATION: chunk %d of %d has %s", i+1, len(chunks), r.side.Renderer.Render(one))
		}
		if !last && len(one.Kvs) == 0 {
			shape += fmt.Sprintf(" VIOLATION: chunk %d of %d is empty", i+1, len(chunks))
		}
		proto.Merge(merged, one)
	}
	if req.Limit < 0 {
		return r.side.Renderer.Render(merged) + shape, merged, nil
	}
	// What the chunks merge to is the reply; how many there are is pacing.
	more := "one chunk"
	if len(chunks) > 1 {
		more = "several chunks"
	} else if len(chunks) == 0 {
		more = "no chunk"
	}
	return fmt.Sprintf("%s (%s)%s", r.side.Renderer.Render(merged), more, shape), merged, nil
}

// keepAlive sends one request over a LeaseKeepAlive stream and shows the
// answer.
func (r *runner) keepAlive(ctx context.Context, id string) (string, proto.Message, error) {
	req := &pb.LeaseKeepAliveRequest{}
	if err := prototext.Unmarshal([]byte("ID:"+id), req); err != nil {
		return "", nil, err
	}
	s, err := pb.NewLeaseClient(r.side.Conn).LeaseKeepAlive(ctx)
	if err == nil {
		err = s.Send(req)
	}
	var resp *pb.LeaseKeepAliveResponse
	if err == nil {
		resp, err = s.Recv()
	}
	if err != nil {
		return showError(err), nil, nil
	}
	s.CloseSend()
	return r.side.Renderer.Render(resp), resp, nil
}

// withMetadata adds "key=value key=value" to the outgoing metadata; a value
// may be quoted, to hold any byte.
func withMetadata(ctx context.Context, text string) context.Context {
	for _, kv := range strings.Fields(text) {
		key, value, _ := strings.Cut(kv, "=")
		if unquoted, _, err := cutWord(value); err == nil {
			value = unquoted
		}
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	return ctx
}

var etcdVersion = regexp.MustCompile(`3\.7\.\d+`)

// http makes one HTTP/1.1 request and shows status, content type and body.
func (r *runner) http(ctx context.Context, text string) string {
	method, rest, _ := strings.Cut(text, " ")
	path, body, _ := strings.Cut(rest, " ")
	req, err := http.NewRequestWithContext(ctx, method, r.side.Server.ClientURL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return err.Error()
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "no answer"
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "the body breaks off"
	}
	lines := strings.Split(string(data), "\n")
	if strings.HasPrefix(lines[0], "[") {
		// etcd lists its checks in random order.
		n := slices.IndexFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "[") })
		slices.Sort(lines[:max(n, 0)])
	}
	shown := etcdVersion.ReplaceAllString(strings.Join(lines, "\n"), "3.7.N")
	for from, to := range r.side.Renderer.Text {
		shown = strings.ReplaceAll(shown, from, to)
	}
	return fmt.Sprintf("%d %s allow:%q\n%s", resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Allow"), shown)
}

package harness

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Side is one of the two servers under comparison, with a connection to it.
type Side struct {
	// Label is "etcd" or "rusd" in messages.
	Label string
	// Server is the process.
	Server *Server
	// Conn is a raw gRPC connection.
	Conn *grpc.ClientConn
	// Member is the server's id.
	Member uint64
	// Renderer knows this server's ids and addresses by name.
	Renderer Renderer
}

// Pair is a real etcd and a subject, started alike.
type Pair struct {
	// Etcd is the reference, Subject is compared with it.
	Etcd, Subject *Side
}

// StartPair starts both servers with the same extra flags.
func StartPair(flags ...string) (*Pair, error) {
	pair := &Pair{}
	var errs [2]error
	var wg sync.WaitGroup
	for i, start := range []func() (*Side, error){
		func() (*Side, error) { return startSide("etcd", EtcdBin(), flags) },
		func() (*Side, error) { return startSide("rusd", SubjectBin(), flags) },
	} {
		wg.Go(func() {
			side, err := start()
			errs[i] = err
			if i == 0 {
				pair.Etcd = side
			} else {
				pair.Subject = side
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			pair.Close()
			return nil, fmt.Errorf("%s: %w", []string{"etcd", "rusd"}[i], err)
		}
	}
	return pair, nil
}

func startSide(label, bin string, flags []string) (*Side, error) {
	srv, err := Start(Options{Bin: bin, Flags: flags})
	if err != nil {
		return nil, err
	}
	side := &Side{Label: label, Server: srv}
	if side.Conn, err = Dial(srv.Addr); err == nil {
		err = side.learn()
	}
	if err != nil {
		side.Close()
		return nil, err
	}
	return side, nil
}

// learn finds out the names that the renderer uses.
func (s *Side) learn() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	status, err := pb.NewMaintenanceClient(s.Conn).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return err
	}
	s.Member = status.Header.MemberId
	s.Renderer = Renderer{
		IDs: map[uint64]string{
			status.Header.MemberId:  "MEMBER",
			status.Header.ClusterId: "CLUSTER",
		},
		Text: map[string]string{
			s.Server.ClientURL:                 "CLIENT-URL",
			s.Server.PeerURL:                   "PEER-URL",
			fmt.Sprint(status.Header.MemberId): "MEMBER",
		},
	}
	return nil
}

// Close ends the side's connection and server.
func (s *Side) Close() {
	if s.Conn != nil {
		s.Conn.Close()
	}
	s.Server.Close()
}

// Sides lists both, the reference first.
func (p *Pair) Sides() [2]*Side { return [2]*Side{p.Etcd, p.Subject} }

// Both runs f on both sides at once and returns their results.
func (p *Pair) Both(f func(*Side) string) (etcd, subject string) {
	var wg sync.WaitGroup
	wg.Go(func() { etcd = f(p.Etcd) })
	wg.Go(func() { subject = f(p.Subject) })
	wg.Wait()
	return etcd, subject
}

// Close ends both servers.
func (p *Pair) Close() {
	for _, s := range p.Sides() {
		if s != nil {
			s.Close()
		}
	}
}

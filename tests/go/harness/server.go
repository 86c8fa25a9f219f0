// Package harness starts and stops the servers that the suites talk to: the
// real etcd and the subject, each a child process on free loopback ports with
// a data directory of its own.
package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// StartTimeout bounds how long a server may take until it serves.
const StartTimeout = 30 * time.Second

// Options say how to start a server.
type Options struct {
	// Bin is the executable.
	Bin string
	// Flags are added after the harness's own, so they win over them.
	Flags []string
	// Dir holds the data directory and the log; created when empty.
	Dir string
	// UID runs the server as another user, which takes root; 0 means as who
	// runs the suite.
	UID uint32
}

// Server is one running server process.
type Server struct {
	// ClientURL and PeerURL are what the server listens on.
	ClientURL, PeerURL string
	// Addr is the host:port of ClientURL.
	Addr string
	// Dir holds the data directory and the log.
	Dir string

	opts   Options
	ownDir bool
	cmd    *exec.Cmd
	log    *os.File
	done   chan struct{}
	exit   error
}

// Start starts a server and waits until it answers a linearizable read.
func Start(opts Options) (*Server, error) {
	s, err := Launch(opts)
	if err != nil {
		return nil, err
	}
	if err := s.WaitReady(StartTimeout); err != nil {
		tail := s.LogTail(40)
		s.Close()
		return nil, fmt.Errorf("%s did not become ready: %w\n%s", opts.Bin, err, tail)
	}
	return s, nil
}

// Launch starts a server without waiting for it.
func Launch(opts Options) (*Server, error) {
	s := &Server{opts: opts, Dir: opts.Dir}
	if s.Dir == "" {
		dir, err := os.MkdirTemp("", "rusd-suite-")
		if err != nil {
			return nil, err
		}
		s.Dir, s.ownDir = dir, true
	}
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	s.Addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	s.ClientURL = "http://" + s.Addr
	s.PeerURL = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	return s, s.spawn()
}

// Args are the arguments the process is started with.
func (s *Server) Args() []string {
	args := []string{
		"--name=m0",
		"--data-dir=" + s.DataDir(),
		"--listen-client-urls=" + s.ClientURL,
		"--advertise-client-urls=" + s.ClientURL,
		"--listen-peer-urls=" + s.PeerURL,
		"--initial-advertise-peer-urls=" + s.PeerURL,
		"--initial-cluster=m0=" + s.PeerURL,
	}
	return append(args, s.opts.Flags...)
}

// DataDir is the server's data directory.
func (s *Server) DataDir() string { return filepath.Join(s.Dir, "data") }

// LogPath is the file that takes the process's output.
func (s *Server) LogPath() string { return filepath.Join(s.Dir, "log") }

// Pid is the process id.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

func (s *Server) spawn() error {
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(s.opts.Bin, s.Args()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = CleanEnv()
	// A child must not outlive a test run that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if s.opts.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.opts.UID, Gid: s.opts.UID}
	}
	if err := startOnLastingThread(cmd); err != nil {
		log.Close()
		return err
	}
	s.cmd, s.log, s.done = cmd, log, make(chan struct{})
	done := s.done
	go func() {
		s.exit = cmd.Wait()
		close(done)
	}()
	return nil
}

// WaitReady waits until the server answers a linearizable read and has
// published its name.
func (s *Server) WaitReady(timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	// The default back-off between dials would dominate the start time.
	conn, err := Dial(s.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("health")})
		var list *pb.MemberListResponse
		if err == nil {
			list, err = pb.NewClusterClient(conn).MemberList(ctx, &pb.MemberListRequest{Linearizable: true})
		}
		cancel()
		if err == nil && len(list.Members) > 0 && list.Members[0].Name != "" {
			return nil
		}
		if err == nil {
			err = errors.New("the member has not published its name")
		}
		select {
		case <-s.done:
			return fmt.Errorf("the process ended: %v", s.exit)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// Terminate sends SIGTERM and waits for the end of the process.
func (s *Server) Terminate(timeout time.Duration) error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.done:
		s.log.Close()
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("still running %v after SIGTERM", timeout)
	}
}

// AwaitEnd waits for the process to end by itself and returns its exit code.
func (s *Server) AwaitEnd(timeout time.Duration) (int, error) {
	select {
	case <-s.done:
		s.log.Close()
		return s.cmd.ProcessState.ExitCode(), nil
	case <-time.After(timeout):
		return 0, fmt.Errorf("still running after %v\n%s", timeout, s.LogTail(20))
	}
}

// Kill ends the process with SIGKILL.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		<-s.done
		s.log.Close()
	}
}

// Alive says whether the process is still running.
func (s *Server) Alive() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// Relaunch starts the ended server again on the same data and the same ports,
// without waiting for it.
func (s *Server) Relaunch() error { return s.spawn() }

// Respawn starts the ended server again on the same data and the same ports.
func (s *Server) Respawn() error {
	if err := s.Relaunch(); err != nil {
		return err
	}
	if err := s.WaitReady(StartTimeout); err != nil {
		return fmt.Errorf("after a restart: %w\n%s", err, s.LogTail(40))
	}
	return nil
}

// Close kills the server and removes what the harness made for it.
func (s *Server) Close() {
	s.Kill()
	if s.ownDir {
		os.RemoveAll(s.Dir)
	}
}

// LogTail returns the last lines of the server's output.
func (s *Server) LogTail(lines int) string {
	data, err := os.ReadFile(s.LogPath())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// Dial connects to a server with raw gRPC.
func Dial(addr string) (*grpc.ClientConn, error) {
	const max = 1 << 30
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(max), grpc.MaxCallSendMsgSize(max)),
		grpc.WithConnectParams(quickConnect))
}

// Ports are handed out in turn from below the kernel's ephemeral range, so that
// neither a parallel test nor an outgoing connection takes one between the
// look and the server's bind.
var nextPort atomic.Int32

func init() { nextPort.Store(int32(10000 + rand.IntN(20000))) }

// FreePorts finds loopback ports that nobody listens on.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := 10000 + int(nextPort.Add(1)-10000)%20000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		ports = append(ports, port)
	}
	return nil, errors.New("no free loopback port found")
}

// CleanEnv is the environment without anything that would configure a server.
func CleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, "ETCD") || strings.HasPrefix(kv, "RUSD") {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// The kernel ties Pdeathsig to the thread that forked, so all children are
// forked by one goroutine that keeps its thread for ever.
var (
	forkOnce sync.Once
	forks    chan func()
)

func startOnLastingThread(cmd *exec.Cmd) error {
	forkOnce.Do(func() {
		forks = make(chan func())
		go func() {
			runtime.LockOSThread()
			for f := range forks {
				f()
			}
		}()
	})
	result := make(chan error)
	forks <- func() { result <- cmd.Start() }
	return <-result
}

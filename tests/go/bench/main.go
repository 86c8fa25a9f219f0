// Command bench loads servers from outside and compares them.
//
//	bench compare   runs all loads alternately on etcd and on rusd with both
//	                engines, and writes a table and a chart
//	bench soak      runs a long mixed load and fails on a stall
//	bench load      runs one load on a server that is already there
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"rusd/tests/harness"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: bench compare|soak|load [flags]")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "compare":
		err = compare(os.Args[2:])
	case "soak":
		err = soak(os.Args[2:])
	case "load":
		err = single(os.Args[2:])
	default:
		err = fmt.Errorf("unknown command %s", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func numbers(text string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// wants says whether a row is to be measured.
func (s *settings) wants(name string) bool {
	if s.only == "" {
		return true
	}
	ok, err := regexp.MatchString(s.only, name)
	return err != nil || ok
}

func compare(args []string) error {
	fs := flag.NewFlagSet("compare", flag.ExitOnError)
	rounds := fs.Int("rounds", 3, "alternate rounds; medians are reported")
	duration := fs.Duration("duration", 4*time.Second, "of each load")
	keys := fs.Int("keys", 100_000, "keys in the store under the loads")
	bigKeys := fs.Int("big-keys", 1_000_000, "keys for memory, disk and start time; 0 leaves them out")
	valueSize := fs.Int("value", 256, "bytes of a value")
	clients := fs.String("clients", "1,64,256,1000", "numbers of clients")
	watchers := fs.String("watchers", "100,10000", "numbers of watchers")
	engines := fs.String("engines", "sled,redb", "storage engines of rusd; empty for none")
	dir := fs.String("dir", "", "where the servers keep their data (default: the temporary directory)")
	only := fs.String("only", "", "regular expression of the rows to measure")
	table := fs.String("table", "", "file for the table")
	chart := fs.String("chart", "", "file for the chart")
	withEtcd := fs.Bool("etcd", true, "compare with etcd")
	before := fs.String("before", "", "another build of rusd, measured beside this one with the same engines")
	fs.Parse(args)

	s := &settings{rounds: *rounds, duration: *duration, keys: *keys, bigKeys: *bigKeys, valueSize: *valueSize, dir: *dir, only: *only}
	var err error
	if s.clients, err = numbers(*clients); err != nil {
		return err
	}
	if s.watchers, err = numbers(*watchers); err != nil {
		return err
	}
	if s.dir == "" {
		s.dir = os.TempDir()
	}
	var subjects []subject
	// Neither side is to be held back by a quota.
	quota := "--quota-backend-bytes=8589934592"
	if *withEtcd {
		subjects = append(subjects, subject{"etcd", harness.EtcdBin(), []string{quota}})
	}
	if *engines != "" {
		for engine := range strings.SplitSeq(*engines, ",") {
			sub := subject{"rusd " + engine, harness.SubjectBin(), []string{quota, "--storage-engine=" + engine}}
			if harness.SelfCheck() {
				sub = subject{"etcd again", harness.EtcdBin(), []string{quota}}
			}
			if *before != "" {
				subjects = append(subjects, subject{"before, " + engine, *before, sub.flags})
			}
			subjects = append(subjects, sub)
		}
	}
	if len(subjects) == 0 {
		return fmt.Errorf("there is nothing to measure")
	}
	rep := newReport()
	for _, sub := range subjects {
		info, err := os.Stat(sub.bin)
		if err != nil {
			return err
		}
		rep.add(sub.name, []measure{{Name: "binary, stripped", Unit: "MB", Better: "less", Value: float64(info.Size()) / 1e6}})
	}
	for round := 1; round <= s.rounds; round++ {
		for _, sub := range subjects {
			measures, err := s.round(sub, round)
			rep.add(sub.name, measures)
			if err != nil {
				return fmt.Errorf("%s: %w", sub.name, err)
			}
		}
	}
	text := rep.markdown(conditions(s, subjects))
	fmt.Println("\n" + text)
	if *table != "" {
		if err := os.WriteFile(*table, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if *chart != "" {
		title := fmt.Sprintf("rusd to %s, same machine, same durability, %d-byte values", subjects[0].name, s.valueSize)
		return os.WriteFile(*chart, []byte(rep.svg(title)), 0o644)
	}
	return nil
}

// conditions states what the figures depend on.
func conditions(s *settings, subjects []subject) string {
	version := "etcd"
	if out, err := exec.Command(harness.EtcdBin(), "--version").Output(); err == nil {
		version = strings.Replace(strings.SplitN(string(out), "\n", 2)[0], "etcd Version:", "etcd", 1)
	}
	return fmt.Sprintf("%s. %s, one member each, default flags but the quota. Every acknowledged write is synced to disk on both before its reply (group commit on both). "+
		"%d-byte values, %d keys under the loads. The load comes from another process on the same cores: closed loop, 1, 8, 16 and 50 connections for 1, 64, 256 and 1000 clients. "+
		"Medians of %d alternate rounds of %v for each load; ratios are to %s. CPU is the server's time per thousand operations. The fsync floor is measured before each round.",
		machine(), version, s.valueSize, s.keys, s.rounds, s.duration, subjects[0].name)
}

// single runs one load on a running server.
func single(args []string) error {
	fs := flag.NewFlagSet("load", flag.ExitOnError)
	addr := fs.String("addr", "127.0.0.1:2379", "host:port of the server")
	op := fs.String("op", "put", "put, get, sget, txn, mixed, range, page, grant, fill")
	clients := fs.Int("clients", 64, "clients")
	conns := fs.Int("conns", 0, "connections; 0 chooses")
	duration := fs.Duration("duration", 5*time.Second, "of the load")
	keys := fs.Int("keys", 100_000, "keys")
	valueSize := fs.Int("value", 256, "bytes of a value")
	count := fs.Int("count", 100, "keys of a range, or limit of a page")
	pid := fs.Int("pid", 0, "of the server, for its processor time")
	fs.Parse(args)
	if *op == "fill" {
		res, err := fillKeys(*addr, *keys, *valueSize)
		if err == nil {
			show(res)
		}
		return err
	}
	l := load{addr: *addr, clients: *clients, conns: *conns, duration: *duration}
	l.make = func(int) operation {
		switch *op {
		case "get", "sget":
			return newGet(*keys, *op == "sget")
		case "txn":
			return newCompareAndPut(*keys, *valueSize)
		case "mixed":
			return &mixed{newGet(*keys, false), newPut(*keys, *valueSize), 20}
		case "range":
			return newWindow(*keys, *count)
		case "page":
			return newFirstPage(*count)
		case "grant":
			return newGrant(3600)
		default:
			return newPut(*keys, *valueSize)
		}
	}
	var before time.Duration
	if *pid != 0 {
		before, _ = cpu(*pid)
	}
	res, err := l.run()
	if err != nil {
		return err
	}
	show(res)
	if *pid != 0 {
		after, _ := cpu(*pid)
		fmt.Printf("server CPU: %.1f ms per 1000 operations\n", ms(after-before)/float64(res.hist.total)*1000)
	}
	return nil
}

func show(r *result) {
	fmt.Printf("%.0f ops/s, %d in %v, p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.1f ms, %.1f MB/s, errors %d %s\n", r.rate(), r.hist.total, r.elapsed.Round(time.Millisecond),
		ms(r.hist.quantile(0.5)), ms(r.hist.quantile(0.99)), ms(r.hist.quantile(0.999)), ms(r.hist.max), float64(r.bytes)/1e6/r.elapsed.Seconds(), r.errors, r.first)
}

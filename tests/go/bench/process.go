package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rusd/tests/harness"
)

// subject is one of the servers compared: a program with flags.
type subject struct {
	name  string
	bin   string
	flags []string
}

// cpu is the processor time that a process has used.
func cpu(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything.
	rest := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, err := strconv.ParseInt(rest[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(rest[12], 10, 64)
	// The kernel counts in hundredths of a second.
	return time.Duration(user+system) * 10 * time.Millisecond, err
}

// rss is the resident memory of a process in bytes, and its peak.
func rss(pid int) (now, peak int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			now = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			peak = kib << 10
		}
	}
	return now, peak, nil
}

// diskUse is what the files of a directory occupy.
func diskUse(dir string) (int64, error) {
	total := int64(0)
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += blocksOf(info)
		}
		return err
	})
	return total, err
}

// fsyncFloor is how many appends of size bytes, each followed by fdatasync, a
// file of the directory takes in a second: what no durable server with one
// client can exceed.
func fsyncFloor(dir string, size int) (float64, time.Duration, error) {
	f, err := os.CreateTemp(dir, "floor-")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	buf := make([]byte, size)
	var hist histogram
	begin := time.Now()
	for time.Since(begin) < 500*time.Millisecond {
		one := time.Now()
		if _, err := f.Write(buf); err != nil {
			return 0, 0, err
		}
		if err := fdatasync(f); err != nil {
			return 0, 0, err
		}
		hist.add(time.Since(one))
	}
	return float64(hist.total) / time.Since(begin).Seconds(), hist.quantile(0.5), nil
}

// startTime is how long a program takes from its start until it answers a
// linearizable read.
func startTime(s subject, dir string) (time.Duration, *harness.Server, error) {
	begin := time.Now()
	srv, err := harness.Start(harness.Options{Bin: s.bin, Flags: s.flags, Dir: dir})
	return time.Since(begin), srv, err
}

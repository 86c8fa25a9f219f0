// Package ctl drives the real etcdctl against a real etcd and against the
// server under test, and compares what it prints and how it exits.
//
// Cases are plain text, in cases/*.txt:
//
//	## KV-P03 put shows the previous value
//	put a 1
//	put a 2 --prev-kv
//	> 1
//
// Every line is one call of etcdctl, run on both servers at once; words may be
// quoted. A line `< text` gives the call before it a line of input. A line `> text` demands that the
// call on etcd printed the text. $ALL_CAPS words in the expected or printed text stand
// for what differs by nature: ids, addresses, times. `name = call` captures the last
// hexadecimal number that the call printed, for use as $name.
//
// `background name call` starts a call that goes on, `until name text` waits
// until it has printed the text, `stop name` interrupts it and compares all it
// printed. `sleep ms` waits.
package ctl

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A Case is a title and its lines.
type Case struct {
	File, Title string
	Fresh       bool
	Flags       []string
	Lines       []Line
}

// A Line is one call, with its input and what it must print.
type Line struct {
	Number int
	Text   string
	Name   string
	Input  []string
	Expect []string
}

// Load reads all cases of a directory.
func Load(dir string) ([]*Case, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var cases []*Case
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		more, err := parse(strings.TrimSuffix(filepath.Base(path), ".txt"), string(data))
		if err != nil {
			return nil, err
		}
		cases = append(cases, more...)
	}
	return cases, nil
}

func parse(file, text string) ([]*Case, error) {
	var cases []*Case
	var c *Case
	in := bufio.NewScanner(strings.NewReader(text))
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		if title, ok := strings.CutPrefix(line, "## "); ok {
			c = &Case{File: file, Title: title}
			cases = append(cases, c)
			continue
		}
		if line == "" || line[0] == '#' {
			continue
		}
		if c == nil {
			return nil, fmt.Errorf("%s:%d: a call before the first case", file, n)
		}
		input, isInput := strings.CutPrefix(line, "<")
		want, isWant := strings.CutPrefix(line, "> ")
		switch {
		case (isInput || isWant) && len(c.Lines) == 0:
			return nil, fmt.Errorf("%s:%d: nothing to add this to", file, n)
		case isInput:
			last := &c.Lines[len(c.Lines)-1]
			last.Input = append(last.Input, strings.TrimPrefix(input, " "))
		case isWant:
			last := &c.Lines[len(c.Lines)-1]
			last.Expect = append(last.Expect, want)
		case line == "fresh":
			c.Fresh = true
		case strings.HasPrefix(line, "flags:"):
			c.Fresh = true
			c.Flags = strings.Fields(line[len("flags:"):])
		default:
			l := Line{Number: n, Text: line}
			if name, rest, ok := strings.Cut(line, " = "); ok && !strings.Contains(name, " ") {
				l.Name, l.Text = name, rest
			}
			c.Lines = append(c.Lines, l)
		}
	}
	return cases, nil
}

// words splits a line, honouring double quotes with Go's escapes.
func words(line string) ([]string, error) {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			out, line = append(out, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		out, line = append(out, word), line[len(quoted):]
	}
	return out, nil
}

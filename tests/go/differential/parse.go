// Package differential makes the same calls on a real etcd and on the server
// under test, and compares every reply field by field.
//
// Cases are plain text, in cases/*.txt; parse.go describes the language. To add
// a case, add lines to a file: no Go is needed.
package differential

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A Case is one comparison: a title that names the contract rows it proves,
// and steps. In a file it looks like this:
//
//	## KV-P01 every put makes a revision, even of the same value
//	first = put a 1
//	put a 1
//	> revision:$first+1
//	get a
//
// A line starting with # is a comment. `fresh` on a line of its own gives the
// case a pair of servers of its own, `flags: --a=b --c=d` does too and adds
// flags. All other lines are steps, each run on both servers, its result
// compared as text. A line `> text` demands that the result that etcd just gave contains
// the text, so that a case cannot pass by comparing two equal irrelevancies.
//
// A step is `[name =] [[key=value ...]] VERB ARGUMENTS`. The name captures the reply:
// $name is then its lease ID or its header revision, $name.field any field,
// $name+1 and $name-1 arithmetic; $base is the revision when the case began.
// The bracket adds gRPC metadata. {x*1000} is a thousand x; {ops:9} and {compares:9}
// are so many operations or compares of a Txn.
//
// Verbs: any unary RPC by name with a request in protobuf text format, such as
// `Range key:"a" limit:2`; RangeStream likewise; and the shorthands
//
//	put KEY VALUE [fields]      get KEY [fields]         del KEY [fields]
//	prefix PREFIX [fields]      all [fields]             compact REVISION [fields]
//	hash [fields]               grant ID TTL             revoke ID
//	ttl ID [fields]             alive ID                 (LeaseKeepAlive, one round)
//	open W                      watch W [fields]         (WatchCreateRequest, and its created reply)
//	send W fields               (any WatchRequest)       events W N  (N events, however batched)
//	reply W                     (the next message)       quiet W [MS]  (nothing arrives)
//	progress W                  (asked until answered)   close W  (half-close, and how it ends)
//	cancel W                    (client cancels)         http METHOD PATH [BODY]
//	repeat N STEP               ({i} counts, {i:04} padded)
//	gone KEY SECONDS            (waits until the key is gone)
//	sleep MS                    restart                  kill (SIGKILL and start again)
type Case struct {
	// File is the name of the case's file without its suffix.
	File string
	// Title is the text after the ##.
	Title string
	// Fresh says that the case wants a pair of servers of its own.
	Fresh bool
	// Flags are given to both servers.
	Flags []string
	// Steps in order.
	Steps []Step
}

// A Step is one line of a case.
type Step struct {
	// Line is its number in the file.
	Line int
	// Text is what it says after any capture name.
	Text string
	// Name captures the reply, if not empty.
	Name string
	// Expect are texts that etcd's result must contain.
	Expect []string
}

// Load reads all cases of a directory, in order.
func Load(dir string) ([]*Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var cases []*Case
	for _, file := range files {
		more, err := parseFile(file)
		if err != nil {
			return nil, err
		}
		cases = append(cases, more...)
	}
	return cases, nil
}

func parseFile(path string) ([]*Case, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	name := strings.TrimSuffix(filepath.Base(path), ".txt")
	var cases []*Case
	var c *Case
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		switch {
		case strings.HasPrefix(line, "## "):
			c = &Case{File: name, Title: strings.TrimSpace(line[3:])}
			cases = append(cases, c)
		case line == "" || strings.HasPrefix(line, "#"):
		case c == nil:
			return nil, fmt.Errorf("%s:%d: a step before the first case", path, n)
		case line == "fresh":
			c.Fresh = true
		case strings.HasPrefix(line, "flags:"):
			c.Fresh = true
			c.Flags = append(c.Flags, strings.Fields(line[len("flags:"):])...)
		case strings.HasPrefix(line, "> "):
			if len(c.Steps) == 0 {
				return nil, fmt.Errorf("%s:%d: an expectation before the first step", path, n)
			}
			last := &c.Steps[len(c.Steps)-1]
			last.Expect = append(last.Expect, strings.TrimSpace(line[2:]))
		default:
			c.Steps = append(c.Steps, parseStep(n, line))
		}
	}
	return cases, in.Err()
}

func parseStep(n int, line string) Step {
	step := Step{Line: n, Text: line}
	if name, rest, ok := strings.Cut(line, " = "); ok && isWord(name) {
		step.Name, step.Text = name, strings.TrimSpace(rest)
	}
	return step
}

func isWord(s string) bool {
	for _, r := range s {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return s != ""
}

var repeatedByte = regexp.MustCompile(`\{(.)\*(\d+)\}`)

// expandRepeats writes {x*1000} out.
func expandRepeats(text string) string {
	return repeatedByte.ReplaceAllStringFunc(text, func(m string) string {
		parts := repeatedByte.FindStringSubmatch(m)
		n, _ := strconv.Atoi(parts[2])
		return strings.Repeat(parts[1], n)
	})
}

var manyOps = regexp.MustCompile(`\{(ops|compares):(\d+)\}`)

// expandOps writes {ops:129} as so many range operations, {compares:129} as
// so many compares.
func expandOps(text string) string {
	return manyOps.ReplaceAllStringFunc(text, func(m string) string {
		parts := manyOps.FindStringSubmatch(m)
		n, _ := strconv.Atoi(parts[2])
		if parts[1] == "ops" {
			return strings.Repeat(`success:{request_range:{key:"a"}} `, n)
		}
		return strings.Repeat(`compare:{key:"a" target:VERSION} `, n)
	})
}

// cutWord takes the first word, which may be a quoted string, off the text.
func cutWord(text string) (word, rest string, err error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", "", fmt.Errorf("an argument is missing")
	}
	if text[0] != '"' {
		word, rest, _ = strings.Cut(text, " ")
		return word, strings.TrimSpace(rest), nil
	}
	quoted, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", text, err)
	}
	word, err = strconv.Unquote(quoted)
	return word, strings.TrimSpace(text[len(quoted):]), err
}

// quoteField writes a byte string in protobuf text format.
func quoteField(name, value string) string {
	var b strings.Builder
	b.WriteString(name + `:"`)
	for i := range len(value) {
		c := value[i]
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteString(`" `)
	return b.String()
}

// prefixEnd is the end of the range of all keys that start with prefix.
func prefixEnd(prefix string) string {
	end := []byte(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return string(end[:i+1])
		}
	}
	return "\x00"
}

package differential

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"rusd/tests/harness"
)

// TestScripts runs cases/*.txt. The cases of a file share a pair of servers,
// so that all revisions are equal on both; after a failure the next case gets
// a new pair. Files run in parallel.
//
// DIFF_TRANSCRIPT=1 prints every step with etcd's answer.
func TestScripts(t *testing.T) {
	cases, err := Load("cases")
	if err != nil {
		t.Fatal(err)
	}
	groups := map[string][]*Case{}
	var order []string
	for _, c := range cases {
		if groups[c.File] == nil {
			order = append(order, c.File)
		}
		groups[c.File] = append(groups[c.File], c)
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runGroup(t, groups[name])
		})
	}
}

func runGroup(t *testing.T, cases []*Case) {
	var shared *harness.Pair
	defer func() {
		if shared != nil {
			shared.Close()
		}
	}()
	for _, c := range cases {
		t.Run(c.Title, func(t *testing.T) {
			pair := shared
			if c.Fresh || pair == nil {
				var err error
				if pair, err = harness.StartPair(c.Flags...); err != nil {
					t.Fatal(err)
				}
				if c.Fresh {
					defer pair.Close()
				} else {
					shared = pair
				}
			}
			if err := runCase(t, pair, c); err != nil {
				reportCase(t, pair, c, err)
				if !c.Fresh {
					shared.Close()
					shared = nil
				}
			}
		})
	}
}

func runCase(t *testing.T, pair *harness.Pair, c *Case) error {
	trace := func(string) {}
	if os.Getenv("DIFF_TRANSCRIPT") != "" {
		trace = func(s string) { t.Log(s) }
	}
	return Run(pair, c, trace)
}

func reportCase(t *testing.T, pair *harness.Pair, c *Case, err error) {
	t.Helper()
	t.Errorf("cases/%s.txt, %q: %v", c.File, c.Title, err)
	for _, side := range pair.Sides() {
		if !side.Server.Alive() {
			t.Errorf("%s has ended:\n%s", side.Label, side.Server.LogTail(20))
		}
	}
	var mismatch *Mismatch
	if out := os.Getenv("DIFF_FAILURES"); out != "" && errors.As(err, &mismatch) {
		f, openErr := os.OpenFile(out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if openErr != nil {
			t.Fatal(openErr)
		}
		defer f.Close()
		fmt.Fprintf(f, "%s.txt: %s\n  %s\n", c.File, c.Title, strings.ReplaceAll(mismatch.Error(), "\n", "\n  "))
	}
}

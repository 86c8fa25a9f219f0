package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
)

// report holds all measures: per subject, per row, one per round.
type report struct {
	subjects []string
	rows     []string
	all      map[string]map[string][]measure
}

func newReport() *report { return &report{all: map[string]map[string][]measure{}} }

func (r *report) add(subject string, measures []measure) {
	if !slices.Contains(r.subjects, subject) {
		r.subjects = append(r.subjects, subject)
		r.all[subject] = map[string][]measure{}
	}
	for _, m := range measures {
		if !slices.Contains(r.rows, m.Name) {
			r.rows = append(r.rows, m.Name)
		}
		r.all[subject][m.Name] = append(r.all[subject][m.Name], m)
	}
}

// median of a figure over the rounds.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r *report) median(subject, row string, of func(measure) float64) float64 {
	var values []float64
	for _, m := range r.all[subject][row] {
		values = append(values, of(m))
	}
	return median(values)
}

func figure(m measure) float64 { return m.Value }

func short(v float64) string {
	switch {
	case math.IsNaN(v) || v == 0:
		return "-"
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// markdown writes the table, ratios to the first subject.
func (r *report) markdown(conditions string) string {
	var b strings.Builder
	b.WriteString(conditions + "\n\n")
	b.WriteString("| | unit |")
	for i, s := range r.subjects {
		b.WriteString(" " + s + " |")
		if i > 0 {
			b.WriteString(" ratio |")
		}
	}
	b.WriteString(" p99 ms | CPU ms per 1000 |\n|---|---|")
	for i := range r.subjects {
		b.WriteString("---:|")
		if i > 0 {
			b.WriteString("---:|")
		}
	}
	b.WriteString("---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s |", row, r.unit(row))
		base := r.median(r.subjects[0], row, figure)
		var p99s, cpus []string
		for i, s := range r.subjects {
			v := r.median(s, row, figure)
			fmt.Fprintf(&b, " %s |", short(v))
			if i > 0 {
				fmt.Fprintf(&b, " %s |", ratio(v, base))
			}
			p99s = append(p99s, short(r.median(s, row, func(m measure) float64 { return m.P99 })))
			cpus = append(cpus, short(r.median(s, row, func(m measure) float64 { return m.CPU })))
		}
		fmt.Fprintf(&b, " %s | %s |\n", together(p99s), together(cpus))
	}
	return b.String()
}

// together joins the figures of all subjects, or is empty if there are none.
func together(figures []string) string {
	if !slices.ContainsFunc(figures, func(f string) bool { return f != "-" }) {
		return ""
	}
	return strings.Join(figures, " / ")
}

func ratio(v, base float64) string {
	if math.IsNaN(v) || math.IsNaN(base) || base == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", v/base)
}

func (r *report) unit(row string) string {
	for _, s := range r.subjects {
		if ms := r.all[s][row]; len(ms) > 0 {
			return ms[0].Unit
		}
	}
	return ""
}

func (r *report) better(row string) string {
	for _, s := range r.subjects {
		if ms := r.all[s][row]; len(ms) > 0 {
			return ms[0].Better
		}
	}
	return ""
}

// svg draws the ratios as bars on a logarithmic scale: to the right is
// better.
func (r *report) svg(title string) string {
	const left, width, bar, gap, top = 430, 560, 9, 7, 70
	colors := []string{"#3d6fb6", "#d07a2d", "#4d9a57", "#8a5fb0"}
	var rows []string
	for _, row := range r.rows {
		if base := r.median(r.subjects[0], row, figure); !strings.HasPrefix(row, "(") && base > 0 {
			rows = append(rows, row)
		}
	}
	others := r.subjects[1:]
	step := len(others)*bar + gap
	height := top + len(rows)*step + 30
	// A factor of 100 either way, cut beyond.
	x := func(ratio float64) float64 {
		return left + width*(math.Log10(math.Max(0.1, math.Min(100, ratio)))+1)/3
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", left+width+90, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="10" y="22" font-size="16">%s</text>`+"\n", html.EscapeString(title))
	for i, s := range others {
		fmt.Fprintf(&b, `<rect x="%d" y="34" width="12" height="12" fill="%s"/><text x="%d" y="45">%s</text>`+"\n", 10+150*i, colors[i%len(colors)], 27+150*i, html.EscapeString(s))
	}
	for _, tick := range []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100} {
		color, dash := "#ddd", ""
		if tick == 1 {
			color, dash = "#555", ` stroke-width="2"`
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"%s/><text x="%.1f" y="%d" text-anchor="middle" fill="#555">%gx</text>`+"\n", x(tick), top-6, x(tick), height-24, color, dash, x(tick), height-8, tick)
	}
	for i, row := range rows {
		y := top + i*step
		note := row
		if r.better(row) == "less" {
			note += " (less is better, inverted)"
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+step/2, html.EscapeString(note))
		base := r.median(r.subjects[0], row, figure)
		for j, s := range others {
			v := r.median(s, row, figure)
			if math.IsNaN(v) || v <= 0 {
				continue
			}
			ratio := v / base
			if r.better(row) == "less" {
				ratio = base / v
			}
			from, to := math.Min(x(1), x(ratio)), math.Max(x(1), x(ratio))
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d" font-size="9">%.2f</text>`+"\n", from, y+j*bar, math.Max(to-from, 1), bar-1, colors[j%len(colors)], to+4, y+j*bar+bar-1, ratio)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// machine describes where this ran.
func machine() string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	return fmt.Sprintf("%d cores (%s), %s", runtime.NumCPU(), model, runtime.GOOS)
}

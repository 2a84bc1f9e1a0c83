// Command engine answers PromQL with Prometheus' own engine over series from a file, for
// tests/differential/engine of AetherDB to compare with.
//
// To build it, take a checkout of Prometheus 3.14 (github.com/prometheus/prometheus) with its Go
// modules at hand, put this file there as cmd/engine/main.go, and run `go build ./cmd/engine`.
//
//	engine FILE ADDRESS
//
// FILE has a series a line, as AetherDB's /api/v1/import takes them, null being a stale marker:
//
//	{"metric": {"__name__": "m"}, "values": [1, "NaN", null], "timestamps": [0, 15000, 30000]}
//
// It serves /api/v1/query, /api/v1/query_range and /-/ready at ADDRESS, without the checks that
// Prometheus' API itself makes of times and steps. DELAYED=1 in the environment removes metric
// names when a query ends, as Prometheus' script tests have it, not with each operation.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"net/http"
	"os"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

const (
	lineBytesMax   = 1 << 26
	annotationsMax = 10
	samplesMax     = 50_000_000
	lookback       = 5 * time.Minute
	timeout        = 2 * time.Minute
	subqueryStepMs = 60_000
)

// floatSample is a sample that is never a histogram and has no start timestamp.
type floatSample struct {
	ms    int64
	value float64
}

func (s floatSample) T() int64                      { return s.ms }
func (s floatSample) ST() int64                     { return 0 }
func (s floatSample) F() float64                    { return s.value }
func (s floatSample) H() *histogram.Histogram       { return nil }
func (s floatSample) FH() *histogram.FloatHistogram { return nil }
func (s floatSample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s floatSample) Copy() chunks.Sample           { return s }

type series struct {
	labels labels.Labels
	// By time.
	samples []chunks.Sample
}

// memory is a storage of series in the order of their labels.
type memory []series

func (m memory) Querier(mint, maxt int64) (storage.Querier, error) {
	return querier{memory: m, mint: mint, maxt: maxt}, nil
}

// querier is never asked for the names and values of labels.
type querier struct {
	storage.LabelQuerier
	memory     memory
	mint, maxt int64
}

func (querier) Close() error { return nil }

func (q querier) Select(
	_ context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	from, to := q.mint, q.maxt
	if hints != nil {
		from, to = hints.Start, hints.End
	}
	selected := &selection{}
	for _, one := range q.memory {
		differs := func(m *labels.Matcher) bool { return !m.Matches(one.labels.Get(m.Name)) }
		if slices.ContainsFunc(matchers, differs) {
			continue
		}
		all := one.samples
		begin := sort.Search(len(all), func(i int) bool { return all[i].T() >= from })
		end := sort.Search(len(all), func(i int) bool { return all[i].T() > to })
		if begin < end {
			found := storage.NewListSeries(one.labels, all[begin:end])
			selected.series = append(selected.series, found)
		}
	}
	return selected
}

// selection is a storage.SeriesSet; done counts the series that Next has passed.
type selection struct {
	series []storage.Series
	done   int
}

func (s *selection) Next() bool                        { s.done++; return s.done <= len(s.series) }
func (s *selection) At() storage.Series                { return s.series[s.done-1] }
func (s *selection) Err() error                        { return nil }
func (s *selection) Warnings() annotations.Annotations { return nil }

// load reads a file of series.
func load(path string) (memory, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all memory
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		one, err := parseSeries(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s: series %d: %w", path, len(all)+1, err)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b series) int { return labels.Compare(a.labels, b.labels) })
	return all, lines.Err()
}

func parseSeries(line []byte) (series, error) {
	var given struct {
		Metric     map[string]string
		Values     []any
		Timestamps []int64
	}
	if err := json.Unmarshal(line, &given); err != nil {
		return series{}, err
	}
	one := series{labels: labels.FromMap(given.Metric)}
	for i, text := range given.Values {
		number, err := parseValue(text)
		if err != nil {
			return series{}, err
		}
		one.samples = append(one.samples, floatSample{given.Timestamps[i], number})
	}
	return one, nil
}

func parseValue(given any) (float64, error) {
	switch given := given.(type) {
	case nil:
		return math.Float64frombits(value.StaleNaN), nil
	case float64:
		return given, nil
	case string:
		return strconv.ParseFloat(given, 64)
	}
	return 0, fmt.Errorf("%v is no value", given)
}

// server answers from one engine and one storage.
type server struct {
	engine *promql.Engine
	memory memory
}

// parse makes a query of a request to query_range if it has a start, else of one to query.
func (s server) parse(r *http.Request) (promql.Query, error) {
	text, options := r.FormValue("query"), promql.NewPrometheusQueryOpts(false, lookback)
	if r.FormValue("start") == "" {
		at, err := parseTime(r.FormValue("time"))
		if err != nil {
			return nil, err
		}
		return s.engine.NewInstantQuery(r.Context(), s.memory, options, text, at)
	}
	start, e1 := parseTime(r.FormValue("start"))
	end, e2 := parseTime(r.FormValue("end"))
	step, e3 := time.ParseDuration(r.FormValue("step") + "s")
	if err := errors.Join(e1, e2, e3); err != nil {
		return nil, err
	}
	return s.engine.NewRangeQuery(r.Context(), s.memory, options, text, start, end, step)
}

func (s server) answer(w http.ResponseWriter, r *http.Request) {
	query, err := s.parse(r)
	if err != nil {
		refuse(w, "bad_data", fmt.Errorf("invalid parameter \"query\": %w", err))
		return
	}
	defer query.Close()
	result := query.Exec(r.Context())
	if result.Err != nil {
		refuse(w, "execution", result.Err)
		return
	}
	warnings, infos := result.Warnings.AsStrings(r.FormValue("query"), annotationsMax, annotationsMax)
	send(w, map[string]any{
		"status":   "success",
		"data":     map[string]any{"resultType": result.Value.Type(), "result": list(result.Value)},
		"warnings": warnings,
		"infos":    infos,
	})
}

func refuse(w http.ResponseWriter, kind string, err error) {
	send(w, map[string]any{"status": "error", "errorType": kind, "error": err.Error()})
}

func send(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		log.Print(err)
	}
}

// list has a value in the shape of Prometheus' API.
func list(value parser.Value) any {
	switch value := value.(type) {
	case promql.Vector:
		all := make([]any, 0, len(value))
		for _, one := range value {
			all = append(all, map[string]any{"metric": one.Metric, "value": pair(one.T, one.F)})
		}
		return all
	case promql.Matrix:
		all := make([]any, 0, len(value))
		for _, one := range value {
			pairs := make([]any, 0, len(one.Floats))
			for _, point := range one.Floats {
				pairs = append(pairs, pair(point.T, point.F))
			}
			all = append(all, map[string]any{"metric": one.Metric, "values": pairs})
		}
		return all
	case promql.Scalar:
		return pair(value.T, value.V)
	case promql.String:
		return []any{json.Number(model.Time(value.T).String()), value.V}
	}
	return nil
}

func pair(ms int64, number float64) []any {
	text := strconv.FormatFloat(number, 'g', -1, 64)
	return []any{json.Number(model.Time(ms).String()), text}
}

// parseTime reads seconds since 1970 as milliseconds.
func parseTime(text string) (time.Time, error) {
	seconds, err := strconv.ParseFloat(text, 64)
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), err
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: engine FILE ADDRESS")
	}
	memory, err := load(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	answers := server{memory: memory, engine: promql.NewEngine(promql.EngineOpts{
		MaxSamples:               samplesMax,
		Timeout:                  timeout,
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		UseStartTimestamps:       true,
		EnableDelayedNameRemoval: os.Getenv("DELAYED") == "1",
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStepMs },
		Parser: parser.NewParser(parser.Options{
			EnableExperimentalFunctions:  true,
			ExperimentalDurationExpr:     true,
			EnableExtendedRangeSelectors: true,
			EnableBinopFillModifiers:     true,
		}),
	})}
	http.HandleFunc("/api/v1/query", answers.answer)
	http.HandleFunc("/api/v1/query_range", answers.answer)
	http.HandleFunc("/-/ready", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe(os.Args[2], nil))
}

package policy

import (
	"encoding/xml"
	"fmt"
	"io"
	"time"
)

// The elements of a JUnit report, as continuous integration reads it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
		Skipped *struct{}     `xml:"skipped"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes r as a JUnit report, a suite for each file.
func (r Report) JUnit(w io.Writer) error {
	var all junitSuites
	at := map[string]int{}
	took := map[string]time.Duration{}
	for _, t := range r.Results {
		i, ok := at[t.File]
		if !ok {
			i = len(all.Suites)
			at[t.File] = i
			all.Suites = append(all.Suites, junitSuite{Name: t.File})
		}
		s := &all.Suites[i]
		c := junitCase{Class: t.Package, Name: t.Name, Time: seconds(t.Took)}
		took[t.File] += t.Took
		s.Time = seconds(took[t.File])
		s.Tests++
		switch {
		case t.Skipped:
			s.Skipped++
			c.Skipped = new(struct{})
		case !t.Passed:
			s.Failures++
			c.Failure = &junitFailure{t.Reason, fmt.Sprintf("%s:%d: %s", t.File, t.Line, t.Reason)}
		}
		s.Cases = append(s.Cases, c)
	}
	return all.write(w)
}

func (s *junitSuites) write(w io.Writer) error {
	for _, one := range s.Suites {
		s.Tests, s.Failures = s.Tests+one.Tests, s.Failures+one.Failures
	}
	b, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, b)
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

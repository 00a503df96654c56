package placement

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/internal/model"
)

// Bounds of an expression.
const (
	maxExpression = 2000 // characters
	maxNesting    = 50   // parentheses and nots
)

// ParseQuery reads an expression of the cluster query language:
//
//	query   = and { ("or" | "||") and }
//	and     = not { ("and" | "&&") not }
//	not     = ("not" | "!") not | "(" query ")" | test
//	test    = subject operator [operand]
//	operand = word | 'quoted' | "quoted" | "[" operand {"," operand} "]"
//
// The operators are == != < <= > >= =~ !~ in !in exists !exists and their spelled names (equals, not_equals, less_than, …,
// matches, not_matches, not_in, "not in", not_exists). A regular expression must match the whole value.
//
// The error is a *model.Error with code InvalidParameterException that says where reading stopped.
func ParseQuery(text string) (*Query, error) {
	if len(text) > maxExpression {
		return nil, model.Errorf("InvalidParameterException",
			"The expression has %d characters; at most %d are allowed.", len(text), maxExpression)
	}
	p := &parser{lexer: lexer{in: text}, query: &Query{}}
	root, err := p.either()
	if err == nil {
		p.space()
		if p.at < len(p.in) {
			err = p.fail(`"and", "or" or the end`)
		}
	}
	if err != nil {
		return nil, err
	}
	p.query.root, p.query.beside = root, root.beside()
	return p.query, nil
}

type parser struct {
	lexer
	query *Query
	depth int
}

// fail says what was expected where reading stopped.
func (p *parser) fail(expected string) error {
	found := "the end"
	if p.at < len(p.in) {
		rest := p.in[p.at:]
		found = strconv.Quote(rest[:min(len(rest), 20)])
	}
	return p.invalid("expected %s at character %d, found %s", expected, p.at+1, found)
}

func (p *parser) invalid(format string, args ...any) error {
	return model.Errorf("InvalidParameterException", "The expression %q cannot be read: %s.", p.in, fmt.Sprintf(format, args...))
}

func (p *parser) either() (expression, error) {
	left, err := p.both()
	for err == nil && (p.symbol("||") || p.keyword("or")) {
		var right expression
		right, err = p.both()
		left = or{left, right}
	}
	return left, err
}

func (p *parser) both() (expression, error) {
	left, err := p.not()
	for err == nil && (p.symbol("&&") || p.keyword("and")) {
		var right expression
		right, err = p.not()
		left = and{left, right}
	}
	return left, err
}

func (p *parser) not() (expression, error) {
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxNesting {
		return nil, p.invalid("it is nested deeper than %d", maxNesting)
	}
	switch {
	case p.symbol("!") || p.keyword("not"):
		of, err := p.not()
		return negate{of}, err
	case p.symbol("("):
		e, err := p.either()
		if err == nil && !p.symbol(")") {
			err = p.fail(`")"`)
		}
		return e, err
	}
	return p.test()
}

func (p *parser) test() (expression, error) {
	p.space()
	from := p.at
	subject := p.word()
	name, isAttribute := strings.CutPrefix(subject, subjectAttribute)
	if _, ok := subjects[subject]; !ok && (!isAttribute || name == "") {
		p.at = from
		return nil, p.fail("a subject (attribute:<name>, task:group, agentConnected, agentVersion, ec2InstanceId, registeredAt, " +
			"registeredCpu, registeredMemory, remainingCpu, remainingMemory, runningTasksCount or pendingTasksCount)")
	}
	p.query.dynamic = p.query.dynamic || slices.Contains(dynamicSubjects, subject)
	op, ok := p.operator()
	if !ok {
		return nil, p.fail("an operator (==, !=, <, <=, >, >=, =~, !~, in, !in, exists or !exists)")
	}
	e := &test{subject: subject, op: op}
	switch op {
	case exists, notExists:
		return e, nil
	case in, notIn:
		return e, p.list(e)
	case matches, notMatches:
		return e, p.pattern(e)
	}
	return e, p.operand(e)
}

// operators in the order in which they are tried: a longer symbol before one that it starts with.
var operators = []struct {
	name string
	op   operator
	word bool
}{
	{"==", equal, false}, {"!=", notEqual, false}, {"=~", matches, false}, {"!~", notMatches, false},
	{"<=", lessEqual, false}, {">=", greaterEqual, false}, {"<", less, false}, {">", greater, false},
	{"!exists", notExists, true}, {"!in", notIn, true},
	{"equals", equal, true}, {"not_equals", notEqual, true}, {"matches", matches, true}, {"not_matches", notMatches, true},
	{"less_than_equal", lessEqual, true}, {"greater_than_equal", greaterEqual, true},
	{"less_than", less, true}, {"greater_than", greater, true},
	{"exists", exists, true}, {"not_exists", notExists, true}, {"in", in, true}, {"not_in", notIn, true},
}

func (p *parser) operator() (operator, bool) {
	for _, o := range operators {
		if (o.word && p.keyword(o.name)) || (!o.word && p.symbol(o.name)) {
			return o.op, true
		}
	}
	from := p.at
	if p.keyword("not") {
		switch {
		case p.keyword("in"):
			return notIn, true
		case p.keyword("exists"):
			return notExists, true
		}
	}
	p.at = from
	return 0, false
}

// operand reads one value and checks that the subject can be compared with it.
func (p *parser) operand(e *test) error {
	p.space()
	from := p.at
	v, ok := p.value()
	if !ok {
		return p.fail("a value")
	}
	expected := ""
	switch subjects[e.subject] {
	case number:
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			expected = "a whole number"
		}
	case instant:
		if _, err := parseInstant(v); err != nil {
			expected = "a time such as 2026-02-18T13:22:09+00:00"
		}
	}
	if expected != "" {
		p.at = from
		return p.fail(expected)
	}
	e.want = append(e.want, v)
	return nil
}

func (p *parser) list(e *test) error {
	if !p.symbol("[") {
		return p.fail(`"["`)
	}
	for {
		if err := p.operand(e); err != nil {
			return err
		}
		if p.symbol("]") {
			return nil
		}
		if !p.symbol(",") {
			return p.fail(`"," or "]"`)
		}
	}
}

func (p *parser) pattern(e *test) error {
	p.space()
	from := p.at
	v, ok := p.regexp()
	if !ok {
		return p.fail("a regular expression")
	}
	_, err := regexp.Compile(v)
	var re *regexp.Regexp
	if err == nil {
		re, err = regexp.Compile("^(?:" + v + ")$")
	}
	if err != nil {
		p.at = from
		return p.invalid("the regular expression at character %d cannot be used: %v", from+1, err)
	}
	e.pattern = re
	return nil
}

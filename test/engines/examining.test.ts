/** Answers of a client that was asked many things: told apart by a random mark, and none is taken for another. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { answersIn, expectedRows, markLine, queryChecks, rowsIn } from '../../engines/examining.ts'

const token = 'abcdefghijkl'
const said = (...lines: string[]) => ({
  exits: [0],
  stdout: `${lines.join('\n')}\n`,
  stderrTail: 'the last words',
})
const mark = (what: string) => markLine(token, what)
const query = (name: string, expect: string) => ({ name, sql: 'SELECT', expect })

describe('what a copy was asked', () => {
  test('an answer is what stands between two marks; what came last before the end is none', () => {
    const result = said(
      mark('query 0'),
      'a|1',
      'b|2',
      mark('query 1'),
      markLine('zzzzzzzzzzzz', 'query 0'),
      mark('rows'),
      '{',
    )
    const answers = answersIn(token, result)
    assert.deepEqual(
      [...answers],
      [
        ['query 0', 'a|1\nb|2'],
        ['query 1', markLine('zzzzzzzzzzzz', 'query 0')],
      ],
    )
  })

  test('a query that was not answered fails with what the client said, and those after it were not asked', () => {
    const queries = [query('one', 'a|1\n'), query('two', ''), query('three', '')]
    const answers = answersIn(token, said(mark('query 0'), 'a|1', mark('query 1'), ''))
    const checks = queryChecks({ queries }, answers, 'the last words')
    assert.deepEqual(
      checks.map(one => one.answer),
      ['pass', 'fail', 'fail'],
    )
    assert.match(checks[1]?.detail ?? '', /the last words/)
    assert.match(checks[2]?.detail ?? '', /Not asked/)
  })

  test('an empty answer is not the one that was expected', () => {
    const answers = answersIn(token, said(mark('query 0'), mark('end')))
    const [check] = queryChecks({ queries: [query('one', '0')] }, answers, '')
    assert.equal(check?.answer, 'fail')
  })

  test('rows are held against estimates: only what no estimate explains fails', () => {
    const judge = (rows: number, estimate: number | null) =>
      expectedRows([{ table: 't', rows }], [{ table: 't', rows: estimate }])
    const answers: [number, number | null, string][] = [
      [5000, 5000, 'pass'],
      [9000, 5000, 'pass'],
      [0, 900, 'pass'],
      [0, null, 'pass'],
      [900, 5000, 'warn'],
      [12_000, 5000, 'warn'],
      [0, 5000, 'fail'],
    ]
    for (const [rows, estimate, answer] of answers) {
      const { check, rows: told } = judge(rows, estimate)
      assert.equal(check.answer, answer, `${rows} of about ${estimate}`)
      assert.deepEqual(told, [{ table: 't', rows, expected: estimate }])
    }
    const gone = expectedRows([{ table: 'a', rows: 1 }], [{ table: 'b', rows: null }]).check
    assert.equal(gone.answer, 'warn')
    assert.match(gone.detail, /Not in the copy: b/)
    assert.match(judge(3, null).check.detail, /Counted, not compared/)
  })

  test('rows are lines of JSON', () => {
    assert.deepEqual(rowsIn('{"table" : "a\\nb", "rows" : 2}\n'), [{ table: 'a\nb', rows: 2 }])
  })
})

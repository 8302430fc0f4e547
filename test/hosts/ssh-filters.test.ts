/** Marks in streams are found wherever chunks begin and end, and nothing else is touched. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { endFilter, startFilter } from '../../hosts/ssh/filters.ts'

const startMark = '\x04holdfast 0123\n'
const endMark = '\n\x04holdfast 4567'
/** Data that is full of beginnings of marks. */
const data = fc
  .array(
    fc.constantFrom('\n', '\x04', '\n\x04hold', '\n\x04holdfast 456', '\x04holdfast 0', 'x', '\0', 'ÿ'),
    {
      maxLength: 20,
    },
  )
  .map(parts => Buffer.from(parts.join(''), 'latin1'))
const cuts = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 60 })

function* chunks(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  let at = 0
  for (let index = 0; at < bytes.length; index += 1) {
    const size = sizes[index % sizes.length] ?? 1
    yield bytes.subarray(at, at + size)
    at += size
  }
}

test('what lies between the marks comes through as it is', () => {
  fc.assert(
    fc.property(data, data, data, cuts, (noise, body, rest, sizes) => {
      fc.pre(!noise.includes(startMark) && !body.includes(endMark))
      let said = ''
      let begun = false
      const start = startFilter(
        startMark,
        text => {
          said += text
        },
        () => {
          begun = true
        },
      )
      const end = endFilter(endMark)
      const got: Buffer[] = []
      const all = Buffer.concat([noise, Buffer.from(startMark), body, Buffer.from(endMark), rest])
      let over = false
      for (const chunk of chunks(all, sizes)) {
        const { bytes, ended } = end(start.take(chunk))
        got.push(Buffer.from(bytes))
        over = ended
        if (ended) break
      }
      assert.ok(begun && over)
      assert.ok(Buffer.concat(got).equals(body))
      assert.ok(noise.toString('utf8').startsWith(said.slice(0, 1)))
    }),
  )
})

test('what was said instead of a beginning is told', () => {
  let said = ''
  const start = startFilter(
    startMark,
    text => {
      said += text
    },
    () => assert.fail('it never began'),
  )
  for (const chunk of chunks(Buffer.from('sudo: a password is required\n'), [5])) {
    assert.equal(start.take(chunk).length, 0)
  }
  start.end()
  start.end()
  assert.equal(said, 'sudo: a password is required\n')
})

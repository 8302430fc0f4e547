import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { octal, quote } from '../../hosts/quote.ts'
import { type Shell, scratch, shells } from './support.ts'

const execute = promisify(execFile)

/** What the shell hands to a program: Node prints its arguments' bytes (read from the kernel) in hex. */
async function handed(shell: Shell, file: string, script: Buffer): Promise<string> {
  await writeFile(file, script)
  const [program, ...words] = shell
  const { stdout } = await execute(program, [...words, file])
  return stdout.trim()
}

const printer = "process.stdout.write(require('fs').readFileSync('/proc/self/cmdline').toString('hex'))"

for (const shell of await shells()) {
  test(`any bytes without NUL survive quoting: ${shell.join(' ')}`, async () => {
    await using place = await scratch()
    const file = join(place.path, 'script')
    const head = `exec ${quote(process.execPath)} -e ${quote(printer)} -- `
    const bytes = fc
      .uint8Array({ maxLength: 60, min: 1, max: 255 })
      .map(array => Buffer.from(array).toString('latin1'))
    const nasty = fc
      .array(
        fc.constantFrom(
          "'",
          '"',
          '\\',
          '$x',
          '`',
          '\n',
          '\r',
          ' ',
          '*',
          '~',
          '!',
          '-n',
          '$(id)',
          ';',
          '\x81',
          '\x88',
          '\xff',
          '#',
        ),
      )
      .map(parts => parts.join(''))
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(bytes, nasty), { minLength: 1, maxLength: 12 }), async words => {
        const got = await handed(shell, file, Buffer.from(head + words.map(quote).join(' '), 'latin1'))
        const wanted = words.map(word => `${Buffer.from(word, 'latin1').toString('hex')}00`).join('')
        assert.equal(got.slice(-wanted.length - 6), `2d2d00${wanted}`)
      }),
      { numRuns: 15 },
    )
  })

  test(`any text survives as a secret: ${shell.join(' ')}`, async () => {
    await using place = await scratch()
    const file = join(place.path, 'script')
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'binary', maxLength: 60 }).map(text => text.replaceAll('\0', '\n')),
        async text => {
          const script = `LC_ALL=C; v=$(printf '%bx' ${quote(octal(text))}); exec ${quote(process.execPath)} -e ${quote(printer)} -- "\${v%x}"`
          const wanted = `2d2d00${Buffer.from(text).toString('hex')}00`
          assert.equal((await handed(shell, file, Buffer.from(script))).slice(-wanted.length), wanted)
        },
      ),
      { numRuns: 15 },
    )
  })
}

test('what no argument list can carry is refused', () => {
  assert.throws(() => quote('a\0b'), { code: 'request.invalid' })
  assert.throws(() => quote('\ud800'), { code: 'request.invalid' })
})

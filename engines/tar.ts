/** The members of a tar (POSIX ustar, pax and GNU's long names), checked header by header. */
import { type Bytes, cutShort, type Member, malformed } from './reading.ts'

const block = 512

export const claimsTar = (head: Buffer): boolean =>
  head.length >= block && (head.toString('latin1', 257, 262) === 'ustar' || checksumHolds(head))

/** Yields each file; a member that was not read to its end is skipped. The end mark of two empty blocks must be there. */
export async function* membersOf(bytes: Bytes): AsyncGenerator<Member> {
  let last = ''
  let longName: string | undefined
  for (;;) {
    const offset = bytes.offset
    bytes.inside = last === '' ? 'its first header' : `the header after ${last}`
    if ((await bytes.peek(1)).length === 0) {
      throw cutShort('The end mark of the tar is missing', {
        offset,
        ...(last === '' ? {} : { member: last }),
      })
    }
    const header = await bytes.take(block)
    if (isEmpty(header)) {
      bytes.inside = 'the end mark of the tar'
      const second = await bytes.take(block)
      if (!isEmpty(second)) throw malformed('An empty block lies between two members', { offset })
      await expectNothing(bytes)
      return
    }
    if (!checksumHolds(header)) {
      const after = last === '' ? {} : { member: last }
      throw malformed(
        `A header of the tar is damaged${last === '' ? '' : ', after the file that is named'}`,
        {
          offset,
          ...after,
        },
      )
    }
    const size = sizeOf(header)
    const type = String.fromCharCode(header[156] ?? 0)
    const begins = bytes.offset
    if (type === 'L' || type === 'x') {
      bytes.inside = 'a long name'
      const text = (await bytes.take(size)).toString('utf8')
      longName =
        type === 'L'
          ? text.replace(/\0.*$/s, '')
          : (/(?:^|\n)\d+ path=([^\n]*)\n/.exec(text)?.[1] ?? longName)
      await pad(bytes, size)
      continue
    }
    const name = (longName ?? nameOf(header)).replace(/^(\.\/)+/, '')
    longName = undefined
    last = name
    bytes.inside = `the file ${name}`
    let left = size
    const content = (async function* () {
      while (left > 0) {
        const piece = await bytes.next(left)
        if (piece === undefined) {
          throw cutShort('The tar ends inside a file', { member: name, offset: bytes.offset })
        }
        left -= piece.length
        yield piece
      }
    })()
    if (type === '0' || type === '\0') yield { name, bytes: size, offset: begins, content }
    // Whatever of it nobody wanted.
    while (left > 0) left -= (await bytes.take(Math.min(left, 1 << 20))).length
    await pad(bytes, size)
  }
}

async function pad(bytes: Bytes, size: number): Promise<void> {
  const rest = size % block
  if (rest > 0) await bytes.take(block - rest)
}

/** Some tars are filled up with zeros to whole records. */
async function expectNothing(bytes: Bytes): Promise<void> {
  for (;;) {
    const offset = bytes.offset
    const chunk = await bytes.next()
    if (chunk === undefined) return
    if (!isEmpty(chunk)) throw malformed('Bytes follow the end mark of the tar', { offset })
  }
}

const isEmpty = (bytes: Buffer): boolean => bytes.every(byte => byte === 0)

function checksumHolds(header: Buffer): boolean {
  let sum = 0
  for (let at = 0; at < block; at += 1) sum += at >= 148 && at < 156 ? 32 : (header[at] ?? 0)
  const said = Number.parseInt(
    header
      .toString('latin1', 148, 156)
      .replace(/[\0 ]+/g, ' ')
      .trim(),
    8,
  )
  return sum === said && sum > 8 * 32
}

/** Octal digits, or, of large files, base 256 (GNU). */
function sizeOf(header: Buffer): number {
  if (((header[124] ?? 0) & 0x80) !== 0) return Number(header.readBigUInt64BE(128))
  return (
    Number.parseInt(
      header
        .toString('latin1', 124, 136)
        .replace(/[\0 ]+/g, ' ')
        .trim(),
      8,
    ) || 0
  )
}

function nameOf(header: Buffer): string {
  const text = (from: number, to: number) => header.toString('utf8', from, to).replace(/\0.*$/s, '')
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? text(345, 500) : ''
  return prefix === '' ? text(0, 100) : `${prefix}/${text(0, 100)}`
}

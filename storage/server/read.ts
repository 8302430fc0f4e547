/** What is read for as long as somebody likes: ranges of objects, and lists of them. */
import { Readable } from 'node:stream'
import { HoldfastError } from '../../model/errors.ts'
import type { CallOptions, ObjectStat } from '../destination.ts'
import { checkPrefix, compareKeys } from '../object-key.ts'
import type { Opened } from '../resuming-read.ts'
import { passes } from '../retry-calls.ts'
import { begin, type Question, type Store, seen } from './ask.ts'
import { explained, failed, isAbsentSaid } from './errors.ts'
import { exits, objectsScript as script } from './shell.ts'

const listings = 4

export async function openAt(
  store: Store,
  key: string,
  options: CallOptions,
  position: number,
  end?: number,
  tag?: string,
): Promise<Opened> {
  const doing = `Reading "${key}"`
  const length = end === undefined ? -1 : end - position
  const printed = await printedBy(store, {
    ...options,
    doing,
    script,
    words: ['get', key, String(position), String(length), '-1'],
  })
  try {
    const line = await printed.line()
    if (line === undefined) {
      await printed.ended()
      throw new HoldfastError('destination.unreachable', `${doing} in ${store.uri} failed: no answer came.`)
    }
    const object = seen(line)
    if (tag !== undefined && tag !== object.tag) {
      throw new HoldfastError('destination.exists', `"${key}" in ${store.uri} is another object now.`)
    }
    const last = Math.min(object.bytes, end ?? object.bytes)
    const body = Readable.from(bytesOf(store, key, printed, last - position), {
      objectMode: false,
      highWaterMark: 1024 * 1024,
    })
    body.once('close', printed.stop)
    return { body, tag: object.tag, end: last }
  } catch (error) {
    printed.stop()
    throw error
  }
}

/** A file that was cut under the reader ends in an error, not in an early end. */
async function* bytesOf(
  store: Store,
  key: string,
  printed: Printed,
  expected: number,
): AsyncGenerator<Buffer> {
  let left = expected
  for await (const chunk of printed.rest()) {
    left -= chunk.length
    yield chunk
  }
  await printed.ended()
  if (left > 0) {
    throw new HoldfastError(
      'destination.corrupted',
      `Reading "${key}" in ${store.uri} failed: the file became shorter while it was read.`,
    )
  }
}

/** A list whose link broke goes on behind the last key that it gave. */
export async function* listObjects(
  store: Store,
  prefix: string,
  options: CallOptions = {},
): AsyncGenerator<ObjectStat> {
  checkPrefix(prefix)
  const folder = prefix.slice(0, Math.max(0, prefix.lastIndexOf('/')))
  const question: Question = { ...options, doing: `Listing "${prefix}"`, script, words: ['list', folder] }
  let last: string | undefined
  for (let fruitless = 1; ; fruitless += 1) {
    try {
      for await (const found of listed(store, question)) {
        if (!found.key.startsWith(prefix)) continue
        if (last !== undefined && compareKeys(found.key, last) <= 0) continue
        last = found.key
        fruitless = 0
        yield found
      }
      return
    } catch (error) {
      options.signal?.throwIfAborted()
      if (!passes(error) || fruitless >= listings) throw error
    }
  }
}

async function* listed(store: Store, question: Question): AsyncGenerator<ObjectStat> {
  const printed = await printedBy(store, question)
  try {
    for (;;) {
      const line = await printed.line()
      question.signal?.throwIfAborted()
      if (line === '\t') break
      if (line === undefined) {
        await printed.ended()
        throw new HoldfastError(
          'destination.unreachable',
          `${question.doing} in ${store.uri} failed: the list has no end.`,
        )
      }
      const at = line.indexOf('\t')
      yield { key: line.slice('./'.length, at), ...seen(line.slice(at + 1)) }
    }
  } finally {
    printed.stop()
  }
}

interface Printed {
  /** The next line, without its end; undefined when there are no more. */
  line(): Promise<string | undefined>
  rest(): AsyncGenerator<Buffer>
  /** Throws what the script met. */
  ended(): Promise<void>
  stop(): void
}

/** The output of a script that is read at the reader's pace. */
async function printedBy(store: Store, question: Question): Promise<Printed> {
  const { doing, signal } = question
  const running = await begin(store, question, 'long')
  let said = ''
  let over = false
  running.stderr.on('data', (chunk: Buffer) => {
    said = `${said}${chunk.toString('utf8')}`.slice(-4096)
  })
  running.stdin.end()
  running.gone.then(
    () => {
      over = true
    },
    () => {
      over = true
    },
  )
  const stop = () => {
    signal?.removeEventListener('abort', stop)
    running.stdout.destroy()
    if (!over) running.kill()
  }
  signal?.addEventListener('abort', stop, { once: true })
  const chunks: AsyncIterator<Buffer> = running.stdout[Symbol.asyncIterator]()
  let held: Buffer = Buffer.alloc(0)
  const next = async (): Promise<Buffer | undefined> => {
    try {
      const step = await chunks.next()
      return step.done ? undefined : step.value
    } catch (error) {
      signal?.throwIfAborted()
      throw explained(store, doing, error)
    }
  }
  return {
    async line() {
      for (;;) {
        const at = held.indexOf(10)
        if (at !== -1) {
          const line = held.subarray(0, at).toString('utf8')
          held = held.subarray(at + 1)
          return line
        }
        const more = await next()
        if (more === undefined) return undefined
        held = held.length === 0 ? more : Buffer.concat([held, more])
      }
    },
    async *rest() {
      if (held.length > 0) yield held
      held = Buffer.alloc(0)
      for (let chunk = await next(); chunk !== undefined; chunk = await next()) yield chunk
    },
    async ended() {
      let exit: number
      try {
        exit = await running.gone
      } catch (error) {
        signal?.throwIfAborted()
        throw explained(store, doing, error)
      }
      signal?.throwIfAborted()
      if (exit === 0) return
      if (exit === exits.absent || (exit !== exits.rootMissing && isAbsentSaid(said))) {
        throw new HoldfastError('destination.object-missing', `${doing}: it is not in ${store.uri}.`)
      }
      throw failed(store, doing, exit, said)
    },
    stop,
  }
}

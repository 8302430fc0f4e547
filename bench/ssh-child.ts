/**
 * Our side of the SSH cases: a process that is there already and keeps its connection, as a worker does, and that takes a
 * stream from a host, or feeds a program there, when it is told to. Speaks by messages of `fork`.
 */
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Command } from '../engines/engine.ts'
import { type Login, openSshHost } from '../hosts/ssh/index.ts'
import { letGo } from '../model/let-go.ts'

export interface Carry {
  login: Login
  stagingRoot: string
  act: 'put' | 'get'
  /** What is sent or fetched: both machines see it under this path. */
  file: string
}

export type Carried = { bytes: number } | { failed: string }

let opened: ReturnType<typeof openSshHost> | undefined

async function carry({ login, stagingRoot, act, file }: Carry): Promise<number> {
  opened ??= openSshHost({ login, runAs: null, stagingRoot })
  const { host } = opened
  const job = { operation: 'bench', step: act, token: randomBytes(6).toString('hex') }
  const cat = (...words: string[]): Command => ({ stages: [{ argv: ['cat', '--', ...words] }] })
  let bytes = 0
  const count = (chunk: Buffer) => {
    bytes += chunk.length
    letGo(chunk)
  }
  if (act === 'get') {
    const { stdout, result } = await host.stream(job, cat(file))
    const nowhere = new Writable({
      highWaterMark: 1 << 20,
      write(chunk: Buffer, _encoding, done) {
        count(chunk)
        done()
      },
    })
    await pipeline(stdout, nowhere)
    await result
    return bytes
  }
  const { stdin, complete, result } = await host.feed(job, {
    stages: [{ argv: ['dd', 'of=/dev/null', 'bs=64K'] }],
  })
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    bytes += (chunk as Buffer).length
    if (!stdin.write(chunk)) await new Promise(resolve => stdin.once('drain', resolve))
  }
  await complete()
  await result
  return bytes
}

process.on('message', (asked: Carry) => {
  carry(asked).then(
    bytes => process.send?.({ bytes } satisfies Carried),
    error =>
      process.send?.({
        failed: error instanceof Error ? (error.stack ?? '') : String(error),
      } satisfies Carried),
  )
})

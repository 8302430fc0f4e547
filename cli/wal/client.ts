/**
 * What archive_command and restore_command start for each file. It imports nothing but Node, so that it starts fast, and hands over
 * to the agent; where none runs it does the work itself.
 *
 * Its exit codes are for bin/holdfast, which makes of them what PostgreSQL understands (docs/log-archiving.md): 0 done, 44 the
 * archive does not have it, anything else (also what Node exits with when it fails) trouble.
 */
import { readFileSync, renameSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname, resolve } from 'node:path'
import type { Answer } from './acts.ts'

const absentCode = 44
const usualConfig = '/etc/holdfast/wal.json'
/** Longer than the agent bears a destination in trouble, for several requests to it. */
const usualSeconds = 120

type Wanted = { act: 'push'; path: string } | { act: 'fetch'; name: string; path: string }

interface Asked {
  wanted: Wanted
  config: string
  seconds: number
}

/** `args`: after `wal`. */
export async function walClient(args: readonly string[]): Promise<number> {
  const asked = parse(args)
  if (typeof asked === 'string') return say('request.invalid', asked, 'See `holdfast wal push --help`.', 2)
  const line = JSON.stringify(asked.wanted)
  try {
    const answer = (await fromAgent(asked, line)) ?? (await alone(asked, line))
    if (answer.state === 'done') return 0
    if (answer.state === 'absent') return absentCode
    if (answer.state === 'fetched') {
      renameSync(answer.draft, asked.wanted.path)
      return 0
    }
    return say(answer.code, answer.detail, answer.hint, 1)
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error)
    const push = asked.wanted.act === 'push'
    const hint = push
      ? 'PostgreSQL keeps the file and asks again.'
      : 'Look at the agent, then start the recovery again.'
    return say('internal', detail, hint, 1)
  }
}

/** A sentence for what was typed wrong. */
function parse(args: readonly string[]): Asked | string {
  const [act, ...rest] = args
  const words: string[] = []
  let config = process.env.HOLDFAST_WAL_CONFIG || usualConfig
  let seconds = usualSeconds
  for (let i = 0; i < rest.length; i += 1) {
    const [name = '', joined] = (rest[i] ?? '').split(/=(.*)/s)
    if (name === '--config' || name === '--timeout') {
      const value = joined ?? rest[++i]
      if (!value) return `${name} wants a value.`
      if (name === '--config') config = value
      else seconds = Number(value)
    } else if (name.startsWith('--')) return `There is no option ${name}.`
    else words.push(rest[i] ?? '')
  }
  if (!(seconds > 0 && seconds <= 86_400)) return '--timeout wants seconds.'
  const [first, second] = words
  const about = { config: resolve(config), seconds }
  if (act === 'push' && first && words.length === 1) {
    return { wanted: { act, path: resolve(first) }, ...about }
  }
  if (act === 'fetch' && first && second && words.length === 2) {
    return { wanted: { act, name: first, path: resolve(second) }, ...about }
  }
  return 'Type `holdfast wal push %p` or `holdfast wal fetch %f %p`.'
}

function say(code: string, detail: string, hint: string, exit: number): number {
  process.stderr.write(`error ${code}: ${detail}\nhint: ${hint}\n`)
  return exit
}

/** undefined: no agent runs. Throws when one runs and does not answer: it may still be at it. */
function fromAgent({ config, seconds }: Asked, line: string): Promise<Answer | undefined> {
  const socket = socketOf(config)
  if (socket === undefined) return Promise.resolve(undefined)
  return new Promise((done, fail) => {
    let text = ''
    const agent = connect(socket)
    const timer = setTimeout(() => {
      fail(new Error(`The agent at ${socket} has not answered for ${seconds} seconds.`))
      agent.destroy()
    }, seconds * 1000)
    agent.setEncoding('utf8')
    agent.once('connect', () => agent.write(`${line}\n`))
    agent.on('data', (piece: string) => {
      text += piece
    })
    agent.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer)
      if (['ENOENT', 'ECONNREFUSED'].includes(error.code ?? '')) done(undefined)
      else fail(new Error(`Asking the agent at ${socket}: ${error.code ?? error.message}.`))
    })
    agent.once('close', () => {
      clearTimeout(timer)
      // An answer is a whole line: an agent that was killed in the middle of one has not answered.
      if (text.endsWith('\n')) done(JSON.parse(text))
      else fail(new Error(`The agent at ${socket} went away before it answered.`))
    })
  })
}

/** Only as much of the configuration as it takes to find the agent; what is wrong with the rest is said by whoever reads it. */
function socketOf(config: string): string | undefined {
  try {
    const { socket } = JSON.parse(readFileSync(config, 'utf8'))
    return resolve(dirname(config), typeof socket === 'string' ? socket : 'wal.sock')
  } catch {
    return undefined
  }
}

async function alone({ config, seconds }: Asked, line: string): Promise<Answer> {
  const { openActs, failed } = await import('./acts.ts')
  const work = async (): Promise<Answer> => {
    const acts = await openActs(config, { resident: false })
    return await acts.answer(line).finally(() => acts.close())
  }
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Answer>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`It was not done after ${seconds} seconds.`)), seconds * 1000)
  })
  return await Promise.race([work().catch(failed), late]).finally(() => clearTimeout(timer))
}

// Sockets and timers of the SDKs may linger: the answer is all there is to wait for.
if (import.meta.main) process.exit(await walClient(process.argv.slice(2)))

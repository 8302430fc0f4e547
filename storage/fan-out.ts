/**
 * One stream of sealed bytes into several uploads at once. Each has parts of its own; the slowest sets the pace. A store that
 * fails, or takes nothing for minutes while others wait for it, is left out, and the others go on; the last one's error is
 * the error of the whole.
 */
import { HoldfastError } from '../model/errors.ts'
import type { Destination, PartInfo } from './destination.ts'
import type { PartJournal } from './journal.ts'
import { type PartSender, partSender, type SenderOptions } from './parts.ts'
import { isOfDestination } from './retry.ts'

/** An upload that is open, and what is known of it. */
export interface Target {
  destination: Destination
  /** Key of the object, relative to the destination's prefix, and the upload opened for it. */
  key: string
  uploadId: string
  /** For artifacts made from staged data, whose bytes can be made again. */
  journal?: PartJournal
  /** What the store lists for this upload. */
  existingParts?: readonly PartInfo[]
}

export type Sent = { parts: PartInfo[]; sentBytes: number } | { error: HoldfastError }

export interface FanOut {
  write(bytes: Buffer): Promise<void>
  compressed(toolBytes: number): void
  /** By target, in their order. Throws when there is none that has it all. */
  finish(): Promise<{ storedBytes: number; storedSha256: string; sent: Sent[] }>
  settle(): Promise<void>
}

type Shared = Omit<SenderOptions, keyof Target>

/** With others waiting, a store must take a part within this. */
const stallSeconds = 300

/** `fail` is called when no target is left, or with an error that is no store's, and must abort `signal`. */
export function fanOut(
  targets: readonly Target[],
  shared: Shared,
  fail: (error: unknown) => void,
  stalledAfterSeconds = stallSeconds,
): FanOut {
  const branches = targets.map(target => {
    const stop = new AbortController()
    const branch: Branch = { sender: undefined as never, lost: undefined, done: 0, stop }
    const lose = (error: unknown) => {
      if (branch.lost !== undefined) return
      const others = branches.some(one => one !== branch && one.lost === undefined)
      if (!others || !isOfDestination(error)) {
        fail(error)
        return
      }
      branch.lost = error
      stop.abort(error)
    }
    branch.lose = lose
    branch.sender = partSender(
      {
        ...shared,
        ...target,
        signal: AbortSignal.any([shared.signal, stop.signal]),
        onProgress: ({ storedBytes, toolBytes }) => {
          branch.done = storedBytes
          const whole = branches.filter(one => one.lost === undefined).map(one => one.done)
          shared.onProgress?.({ storedBytes: Math.min(...whole), toolBytes })
        },
      },
      lose,
    )
    return branch
  })
  const alive = () => branches.filter(branch => branch.lost === undefined)
  /** Of one that was lost nothing more is heard. */
  const each = async (act: (sender: PartSender) => Promise<void>) => {
    await Promise.all(
      alive().map(async branch => {
        const acting = act(branch.sender)
        try {
          await (alive().length > 1 ? inTime(acting, branch, stalledAfterSeconds) : acting)
        } catch (error) {
          shared.signal.throwIfAborted()
          if (branch.lost !== undefined) return
          branch.lose?.(error)
          if (branch.lost === undefined) throw error
        }
      }),
    )
  }
  return {
    write: bytes => each(sender => sender.write(bytes)),
    compressed(toolBytes) {
      for (const { sender } of branches) sender.compressed(toolBytes)
    },
    async finish() {
      const written = new Map<Branch, Awaited<ReturnType<PartSender['finish']>>>()
      await Promise.all(
        alive().map(async branch => {
          try {
            written.set(branch, await branch.sender.finish())
          } catch (error) {
            shared.signal.throwIfAborted()
            branch.lose?.(error)
            if (branch.lost === undefined) throw error
          }
        }),
      )
      shared.signal.throwIfAborted()
      const [first] = written.values()
      if (first === undefined) throw new Error('No target has it all.')
      const { storedBytes, storedSha256 } = first
      return {
        storedBytes,
        storedSha256,
        sent: branches.map(branch => {
          const whole = written.get(branch)
          if (whole && branch.lost === undefined) {
            return { parts: whole.parts, sentBytes: whole.sentBytes }
          }
          return { error: branch.lost as HoldfastError }
        }),
      }
    },
    async settle() {
      await Promise.all(branches.map(branch => branch.sender.settle()))
    },
  }
}

interface Branch {
  sender: PartSender
  lose?: (error: unknown) => void
  lost: HoldfastError | undefined
  done: number
  stop: AbortController
}

async function inTime(acting: Promise<void>, { lose }: Branch, seconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<'late'>(resolve => {
    timer = setTimeout(resolve, seconds * 1000, 'late')
  })
  const first = await Promise.race([acting, late]).finally(() => clearTimeout(timer))
  if (first !== 'late') return
  lose?.(
    new HoldfastError(
      'destination.unreachable',
      `It took no part for ${seconds} seconds, while other destinations waited for it.`,
    ),
  )
  // Ends as soon as it hears that it was left out; until then it may still read the bytes.
  await acting
}

/** What a system test of a failure asks: whose it is, that nothing is left or held, and that it goes on once it is mended. */
import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { OperationView } from '../../model/views.ts'
import { processesWith } from './inspect.ts'
import { pidsIn } from './sessions.ts'
import type { Stack } from './stack.ts'

/** What the detail of an error has to have in it. */
export type Words = readonly (string | RegExp)[]

export interface Failing {
  operation: OperationView
  /** Of the host that its tools run on. */
  staging: string
  code: string
  words: Words
  mend(): unknown
}

export function says(view: OperationView, code: string, ...words: Words): void {
  const { error } = view
  assert.equal(error?.code, code, JSON.stringify(error))
  assert.ok(error.hint.length > 10, 'a hint')
  for (const word of words) {
    const found = typeof word === 'string' ? error.detail.includes(word) : word.test(error.detail)
    assert.ok(found, `${word} in: ${error.detail}`)
  }
}

export async function expectClean(staging: string, id: string): Promise<void> {
  for (const room of ['data', 'jobs']) {
    const left = await readdir(join(staging, room)).catch(() => [] as string[])
    assert.ok(!left.includes(id), `${staging}/${room}/${id} is left`)
  }
  assert.deepEqual(processesWith(id), [])
}

export async function expectSucceeded(stack: Stack, id: string, staging: string): Promise<OperationView> {
  const view = await stack.ended(id)
  assert.equal(view.state, 'succeeded', JSON.stringify(view.error))
  await expectClean(staging, id)
  return view
}

/** Before it has begun: it fails there, nothing is left, and once it is mended another one succeeds. */
export async function expectFailed(
  stack: Stack,
  { operation, staging, code, words, mend }: Failing,
  again: () => Promise<OperationView>,
): Promise<void> {
  const view = await stack.ended(operation.id)
  assert.equal(view.state, 'failed')
  says(view, code, ...words)
  assert.deepEqual(processesWith(view.id), [])
  assert.deepEqual(
    (await stack.backups(operation.connection)).filter(one => one.id === view.backup),
    [],
  )
  await mend()
  await expectSucceeded(stack, (await again()).id, staging)
}

/** In the middle: parked, nothing staged, nothing held; once it is mended it goes on. */
export async function expectParked(stack: Stack, failing: Failing): Promise<OperationView> {
  const { operation, staging, code, words, mend } = failing
  const { id } = operation
  says(await stack.parked(id), code, ...words)
  assert.deepEqual(pidsIn(id, 'pg_dump'), [], 'nothing holds the source')
  if (code.startsWith('staging.')) await expectClean(staging, id)
  await mend()
  await stack.resume(id)
  return await expectSucceeded(stack, id, staging)
}

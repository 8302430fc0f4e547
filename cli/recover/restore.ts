/** The same plan, steps and proofs as a restore by Holdfast, run here, once, by this process. */
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expectSuccess, runCommand, runProbe, runStep, type StepContext } from '../../activities/steps.ts'
import type { RestoreTarget } from '../../engines/engine.ts'
import { engineForUrl, engineOf } from '../../engines/index.ts'
import { openLocalHost } from '../../hosts/index.ts'
import { HoldfastError, isErrorCode } from '../../model/errors.ts'
import { readable } from '../../model/ids.ts'
import type { Manifest } from '../../model/manifest.ts'
import type { CheckResult, MethodName } from '../../model/types.ts'
import { artifactOf, openBytes } from './bytes.ts'
import { type OpenedBackup, openFound, type Source } from './source.ts'

export interface RecoverRestoreOptions {
  /** The new database: `postgres://user@host/NEW` or a path that does not exist; or, of a whole server, its new data directory. */
  to: { url: string } | { directory: string }
  password: string | undefined
  jobs: number
  noOwner: boolean
  /** Scratch directory below which an own one is made and removed. */
  tempDir: string
  signal: AbortSignal
  say(line: string): void
}

/** Returns the name of the restored database. Whatever goes wrong, what was made so far is removed. */
export async function restoreHere(
  source: Source,
  backup: OpenedBackup,
  options: RecoverRestoreOptions,
): Promise<string> {
  const { manifest } = backup
  const { say, signal, to } = options
  const engine = 'url' in to ? engineForUrl(to.url) : engineOf(manifest.engine)
  if (engine.name !== manifest.engine) {
    throw new HoldfastError(
      'restore.mismatch',
      `Backup ${manifest.backupId} is of ${manifest.engine}; the target is ${engine.title}.`,
    )
  }
  const method = engine.methods[manifest.method as MethodName]
  if (method === undefined) {
    throw new HoldfastError('restore.mismatch', `${engine.title} has no ${manifest.method} method here.`)
  }
  if ('directory' in to !== (method.directoryUrl !== undefined)) {
    throw new HoldfastError(
      'request.invalid',
      'url' in to
        ? `Backup ${manifest.backupId} is of a whole server: say into which new directory, --directory PATH.`
        : `Backup ${manifest.backupId} is of one database: say into which new one, --restore-to URL.`,
    )
  }
  const { settings, secrets } = engine.parseUrl('url' in to ? to.url : (method.directoryUrl ?? ''))
  if (options.password !== undefined) secrets.password = options.password

  await mkdir(options.tempDir, { recursive: true, mode: 0o700 })
  const stagingRoot = await mkdtemp(join(options.tempDir, 'recover-'))
  const host = await openLocalHost({ name: 'local', stagingRoot })
  const token = readable(randomBytes(12)).toLowerCase()
  const connection = 'recover'
  const context: StepContext = {
    host,
    engine,
    operation: `recover-${token}`,
    token,
    signal,
    fence: 1,
    secret: async ref => secrets[ref.field],
    assertLease: () => signal.throwIfAborted(),
  }
  try {
    const probe = engine.probeTarget(connection, settings, method.name)
    const targetFacts = probe.read(await runProbe(context, 'probe', probe.commands))
    const parents = await parentsOf(source, manifest)
    const target: RestoreTarget = {
      ...(parents.length > 0 ? { parents: parents.map(one => one.manifest) } : {}),
      connection,
      database: 'url' in to ? targetFacts.database : to.directory,
      token,
      jobs: options.jobs,
      noOwner: options.noOwner,
    }
    const plan = method.planRestore(settings, target, manifest, targetFacts)
    const asks = method.targetChecks(settings, target, manifest)
    expectPassed(asks.read(await runProbe(context, 'check', asks.commands)), 'restore.target-exists')
    await host.files.ensureDirectory(host.stagingDir(context.operation))

    const open = async (name: string, of?: string) => {
      const from = parents.find(one => one.manifest.backupId === of) ?? backup
      const entry = artifactOf(from, name)
      const compressed = await openBytes(source, from, entry, { signal, onProgress: () => {} })
      return { compressed, packing: entry.compression }
    }
    try {
      for (const step of plan.steps) {
        say(step.title)
        await runStep(context, step, open)
      }
      say('comparing the copy with the manifest')
      const proofs = method.proofs(settings, target, manifest, 'temporary', targetFacts)
      expectPassed(
        proofs.read(await runProbe(context, 'prove', proofs.commands, 'no limit')),
        'restore.proof-failed',
      )
      for (const step of plan.finish) {
        say(step.title)
        await runStep(context, step, open)
      }
    } catch (error) {
      say('it failed; removing what was made so far')
      await host.stopOperation(context.operation)
      // Also after Ctrl-C: taking back is not cancelled.
      const undoing: StepContext = { ...context, signal: new AbortController().signal, assertLease: () => {} }
      for (const [index, command] of plan.undo.entries()) {
        const result = await runCommand(undoing, `undo-${index}`, command)
        try {
          expectSuccess(undoing, { title: 'remove the unfinished restore' }, command, result)
        } catch (left) {
          say(`something is left over: ${left instanceof Error ? left.message : String(left)}`)
        }
      }
      throw error
    }
    return target.database
  } finally {
    await host.stopOperation(context.operation)
    await host.removeOperation(context.operation)
    await rm(stagingRoot, { recursive: true, force: true })
  }
}

/** What an incremental backup needs, oldest first. */
async function parentsOf(source: Source, { connection, parent }: Manifest): Promise<OpenedBackup[]> {
  if (parent === null) return []
  const opened = await openFound(source, { connection, backupId: parent })
  return [...(await parentsOf(source, opened.manifest)), opened]
}

function expectPassed(
  checks: readonly CheckResult[],
  fallback: 'restore.target-exists' | 'restore.proof-failed',
): void {
  const failed = checks.find(check => check.answer === 'fail')
  if (failed === undefined) return
  const code = isErrorCode(failed.code) ? failed.code : fallback
  throw new HoldfastError(
    code,
    `${failed.title}: ${failed.detail}`,
    failed.hint === undefined ? {} : { hint: failed.hint },
  )
}

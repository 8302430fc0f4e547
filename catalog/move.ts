/**
 * Moves a catalog from SQLite to PostgreSQL, back, or to another place of the same kind. Nobody works with it meanwhile.
 *
 * mark      the source says where it is going: from now on nobody starts on it, and nobody writes to it
 * copy      every table, compared, in one transaction of the target: whole or not at all
 * settle    the source says that it has gone
 *
 * It may be killed anywhere, and is then begun again by the same call. The installation stays who it is: its id, its
 * instance and its epochs come along, so that what runs goes on. The source does not become usable again by itself.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { type ErrorCode, errorClass, HoldfastError } from '../model/errors.ts'
import { readable } from '../model/ids.ts'
import { audit } from './audit.ts'
import { checkAudit } from './audit-chain.ts'
import { copiedTables, copyTables, resealing } from './copy.ts'
import type { OpenDialect } from './dialect.ts'
import { keyring } from './keys.ts'
import { migrate } from './migrations/index.ts'
import { findAway, finishAway, forgetAway, hasArrived, markAway, movedTo, noteArrived } from './moved.ts'
import { bindingOf, openDialect } from './open.ts'
import { isPostgresqlUrl, readAddress } from './postgresql/address.ts'
import { readSecrets } from './secret-rows.ts'
import { secretBox } from './secrets.ts'
import { catalogPath } from './sqlite.ts'

export interface CatalogAt {
  url: string
  /** What HOLDFAST_SECRET_KEY holds there. */
  secretKey: string
}

export interface Moved {
  from: string
  to: string
  /** Rows of each table; empty when an earlier call had copied them. */
  rows: Record<string, number>
}

/** How far it is; waited for. */
export type Stage = 'opened' | 'marked' | `copied ${string}` | 'committed'

/** Seconds to wait for another process to let go of a SQLite file. */
const ownSeconds = 2

/** Where it is, in words that may be shown. Throws `settings.invalid`. */
export const placeOf = (url: string): string =>
  isPostgresqlUrl(url) ? readAddress(url).words : catalogPath(url)

/**
 * `keysDirectory`: of this machine; the key files of a catalog that several share are placed there, and those that lie there
 * get into one that several will share.
 *
 * Throws `catalog.busy` and `request.in-use` when somebody works with one of them, `request.exists` when the target is not
 * empty, `catalog.moved` when the source has gone elsewhere before, `catalog.differs`, `audit.broken`, and what opening throws.
 */
export async function moveCatalog(
  from: CatalogAt,
  to: CatalogAt,
  keysDirectory: string,
  stage: (stage: Stage) => void | Promise<void> = () => {},
): Promise<Moved> {
  const places = { from: placeOf(from.url), to: placeOf(to.url) }
  if (places.from === places.to) {
    throw new HoldfastError('request.invalid', `The catalog is at ${places.to} already.`)
  }
  return await withCatalog(from, async source => {
    const box = secretBox(from.secretKey)
    // Opened once, so that a wrong secret key is found before anything is changed.
    await readSecrets(source.db, box, 'installation')
    const earlier = await findAway(source.db)
    if (earlier && (earlier.state === 'done' || earlier.place !== places.to)) throw movedTo(earlier)
    await expectAlone(source, places.from)
    const target = await openDialect({ url: to.url, ownSeconds })
    try {
      await expectEmpty(target, places.to, earlier?.id)
      await stage('opened')
      const id = earlier?.id ?? readable(randomBytes(16))
      const at = new Date().toISOString()
      if (!earlier) {
        if (source.shared) await keyring({ ...source, box }, keysDirectory)
        await source.migration(async tx => {
          await markAway(tx, { id, place: places.to, state: 'begun', at })
          await source.fence(tx, copiedTables)
        })
      }
      await stage('marked')
      const targetBox = secretBox(to.secretKey)
      let rows: Record<string, number> = {}
      try {
        // Whoever opened it just before the mark is seen now; whoever opens it after the mark is refused.
        await expectAlone(source, places.from)
        const resealed = from.secretKey !== to.secretKey
        if (resealed) await expectWholeAudit(source, box)
        await migrate(target.migration)
        const binding = await bindingOf(target)
        const { pruned_hash: auditFrom } = (await source.db
          .selectFrom('audit_head')
          .select('pruned_hash')
          .executeTakeFirst()) ?? { pruned_hash: '' }
        const reseal = resealed ? resealing(box, targetBox, auditFrom) : undefined
        rows = await target.migration(async tx => {
          if (await hasArrived(tx, id)) return {}
          const copied = await copyTables(
            source.db,
            tx,
            (table, row) =>
              table === 'installation' ? { ...row, binding } : reseal ? reseal(table, row) : row,
            table => stage(`copied ${table}`),
          )
          await noteArrived(tx, { id, place: places.from, at })
          await audit(
            { box: targetBox, transaction: target.transaction },
            {
              at,
              actor: { name: 'holdfast catalog move' },
              action: 'catalog move',
              object: places.to,
              outcome: 'done',
              detail: { from: places.from, newSecretKey: resealed },
            },
            tx,
          )
          await expectAlone(source, places.from)
          return copied
        })
      } catch (error) {
        await takeMarkBack(source, target, id, error)
        throw error
      }
      await stage('committed')
      if (target.shared) await keyring({ ...target, box: targetBox }, keysDirectory)
      await finishAway(source.db, id)
      return { ...places, rows }
    } finally {
      await target.close()
    }
  })
}

/**
 * Makes a catalog that has gone elsewhere one that is used again: as another instance, which writes nowhere before it has
 * taken over, since the other one may be at work. Throws `request.invalid` when it is where it was.
 */
export async function takeCatalogBack(catalog: CatalogAt): Promise<{ at: string; from: string }> {
  const at = placeOf(catalog.url)
  return await withCatalog(catalog, async source => {
    const away = await findAway(source.db)
    if (!away) throw new HoldfastError('request.invalid', `The catalog ${at} was not moved away.`)
    const box = secretBox(catalog.secretKey)
    await readSecrets(source.db, box, 'installation')
    await expectAlone(source, at)
    await source.migration(async tx => {
      await source.lift(tx, copiedTables)
      await forgetAway(tx)
      // As if it were a copy: it gets a new instance at the next start.
      await tx.updateTable('installation').set({ binding: 'taken back' }).execute()
      const entry = {
        at: new Date().toISOString(),
        actor: { name: 'holdfast catalog move' },
        action: 'catalog move --undo',
        object: at,
        outcome: 'done' as const,
        detail: { from: away.place },
      }
      await audit({ box, transaction: source.transaction }, entry, tx)
    })
    return { at, from: away.place }
  })
}

const missing = (url: string): HoldfastError =>
  new HoldfastError('request.not-found', `There is no catalog at ${placeOf(url)}.`)

/** Throws `request.not-found` for a file that does not exist: opening it would make one. */
export function expectCatalog(url: string): void {
  if (!isPostgresqlUrl(url) && !existsSync(catalogPath(url))) throw missing(url)
}

async function withCatalog<T>({ url }: CatalogAt, work: (source: OpenDialect) => Promise<T>): Promise<T> {
  expectCatalog(url)
  const source = await openDialect({ url, ownSeconds })
  try {
    const tables = await tablesOf(source)
    if (!tables.includes('installation')) throw missing(url)
    await migrate(source.migration)
    const row = await source.db.selectFrom('installation').select('id').executeTakeFirst()
    if (!row) throw missing(url)
    return await work(source)
  } finally {
    await source.close()
  }
}

const tablesOf = async ({ db }: OpenDialect): Promise<string[]> =>
  (await db.introspection.getTables()).filter(table => !table.isView).map(({ name }) => name)

async function expectAlone(source: OpenDialect, place: string): Promise<void> {
  if (await source.presence.alone()) return
  throw new HoldfastError('request.in-use', `API processes work with the catalog ${place}.`, {
    hint: 'Stop all of them (`holdfast up`, `holdfast api`, services, containers), then move it. Workers may go on: they wait.',
  })
}

/** `moveId`: of an earlier call, whose rows may be there. */
async function expectEmpty(target: OpenDialect, place: string, moveId: string | undefined): Promise<void> {
  const tables = await tablesOf(target)
  const known: readonly string[] = [...copiedTables, 'schema_version', 'moves']
  const foreign = tables.find(table => !known.includes(table))
  if (foreign !== undefined) throw notEmpty(place, `a table "${foreign}"`)
  if (tables.includes('moves') && moveId !== undefined && (await hasArrived(target.db, moveId))) return
  for (const table of copiedTables) {
    if (!tables.includes(table)) continue
    const row = await target.db.selectFrom(table).selectAll().limit(1).executeTakeFirst()
    if (row) throw notEmpty(place, `rows in "${table}"`)
  }
}

const notEmpty = (place: string, what: string): HoldfastError =>
  new HoldfastError('request.exists', `The target ${place} is not empty: there are ${what}.`, {
    hint: 'Name an empty database, or a file that does not exist yet; nothing is overwritten.',
  })

/** New hashes over rows that somebody has changed would make them look genuine. */
async function expectWholeAudit(source: OpenDialect, box: ReturnType<typeof secretBox>): Promise<void> {
  const { brokenAt } = await checkAudit({ db: source.db, box })
  if (brokenAt === null) return
  throw new HoldfastError(
    'audit.broken',
    `The audit is broken at row ${brokenAt}, so its hashes are not made anew for another secret key.`,
    { hint: 'Look into it (`holdfast audit check`); with the same secret key the catalog moves as it is.' },
  )
}

const stay = (source: OpenDialect): Promise<void> =>
  source.migration(async tx => {
    await source.lift(tx, copiedTables)
    await forgetAway(tx)
  })

/** Nothing arrived: the source is used as before. Where that is not certain the mark stays, and the call is repeated. */
async function takeMarkBack(
  source: OpenDialect,
  target: OpenDialect,
  id: string,
  error: unknown,
): Promise<void> {
  const lost = error instanceof HoldfastError && isPassing(error.code)
  if (lost) return
  try {
    const tables = await tablesOf(target)
    if (tables.includes('moves') && (await hasArrived(target.db, id))) return
    await stay(source)
  } catch {
    // The first error says what happened.
  }
}

const isPassing = (code: ErrorCode): boolean => errorClass(code) === 'transient'

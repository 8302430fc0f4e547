/**
 * What a kind of catalog database must be able to do. `sqlite/` and `postgresql/` have the same shape; nothing else in
 * the catalog knows which one it works on.
 */
import type { Kysely, QueryCreator } from 'kysely'
import type { CatalogTables } from './schema.ts'

/** The tables, for single statements; inside `transaction`, those of the transaction. */
export type CatalogDatabase = QueryCreator<CatalogTables>

export type InTransaction = <T>(work: (tx: CatalogDatabase) => Promise<T>) => Promise<T>

/** The processes that work with the catalog. */
export interface Presence {
  /** This one: a random id. */
  process: string
  /** Whether the process of this id lives. One that lost its way to the catalog counts as dead until it is back. */
  alive(process: string): Promise<boolean>
  /** Whether no other process lives. */
  alone(): Promise<boolean>
  /** Whether this process is the one that does what one is enough for. */
  lead(): Promise<boolean>
}

export interface OpenDialect {
  db: Kysely<CatalogTables>
  /** Several processes, on several machines, may work with it at once. */
  shared: boolean
  /**
   * As if nobody else were there: what `work` has read is still true when it commits. `work` may run several times, so it
   * changes nothing but rows.
   */
  transaction: InTransaction
  /** One transaction, while no other process migrates. */
  migration<T>(work: (tx: Kysely<CatalogTables>) => Promise<T>): Promise<T>
  presence: Presence
  /** From the end of this transaction on nobody writes to these tables, not even who has opened the catalog before. */
  fence(tx: Kysely<CatalogTables>, tables: readonly string[]): Promise<void>
  lift(tx: Kysely<CatalogTables>, tables: readonly string[]): Promise<void>
  /** What ties the catalog to its place: a copy elsewhere has another one. Asked after the migrations. */
  binding(): Promise<string>
  close(): Promise<void>
}

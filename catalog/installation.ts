/**
 * Who we are: one row, with the keys of the installation. The private halves are secrets like any other.
 */
import { randomBytes } from 'node:crypto'
import { readable } from '../model/ids.ts'
import type { WriterIdentity } from '../model/records.ts'
import { createInstallation, type InstallationKeys } from '../storage/keys.ts'
import type { InTransaction } from './dialect.ts'
import type { Catalog } from './open.ts'
import { putSecrets, readSecrets } from './secret-rows.ts'
import type { SecretBox } from './secrets.ts'

const owner = 'installation'

/**
 * Makes the installation on first use. A catalog whose binding changed gets a new instance id, so that the destinations
 * it used to write are read-only until takeover: two copies must never both write.
 */
export async function ensureInstallation(
  transaction: InTransaction,
  box: SecretBox,
  binding: string,
): Promise<{ newInstance: boolean }> {
  const made = await createInstallation()
  return await transaction(async tx => {
    const row = await tx.selectFrom('installation').selectAll().where('id', '=', 1).executeTakeFirst()
    if (row) {
      // Opened here once, so that a wrong secret key is found at the start and not in the middle of a backup.
      await readSecrets(tx, box, owner)
      if (row.binding === binding) return { newInstance: false }
      await tx
        .updateTable('installation')
        .set({ instance_id: newInstanceId(), binding })
        .where('id', '=', 1)
        .execute()
      await tx.updateTable('destinations').set({ read_only: 1 }).execute()
      return { newInstance: true }
    }
    await tx
      .insertInto('installation')
      .values({
        id: 1,
        installation_id: made.installationId,
        instance_id: newInstanceId(),
        binding,
        signing_public: JSON.stringify(made.publicKey),
        created_at: new Date().toISOString(),
      })
      .execute()
    await putSecrets(tx, box, owner, {
      signing: JSON.stringify(made.signingKey),
      wrapping: JSON.stringify(made.wrapping),
    })
    return { newInstance: false }
  })
}

const newInstanceId = () => readable(randomBytes(16))

export async function writerIdentity(catalog: Catalog): Promise<WriterIdentity> {
  const row = await installationRow(catalog)
  return {
    installationId: row.installation_id,
    instanceId: row.instance_id,
    publicKey: JSON.parse(row.signing_public),
  }
}

/** With the private halves: they leave this process only as signatures and wrapped or opened data keys. */
export async function installationKeys(catalog: Catalog): Promise<InstallationKeys> {
  const row = await installationRow(catalog)
  const { signing, wrapping } = await readSecrets(catalog.db, catalog.box, owner)
  if (signing === undefined || wrapping === undefined) throw new Error('the installation has no keys')
  return {
    installationId: row.installation_id,
    publicKey: JSON.parse(row.signing_public),
    signingKey: JSON.parse(signing),
    wrapping: JSON.parse(wrapping),
  }
}

const installationRow = (catalog: Catalog) =>
  catalog.db.selectFrom('installation').selectAll().where('id', '=', 1).executeTakeFirstOrThrow()

import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Stack } from './stack.ts'

/** From now on these backups were made so many days ago: the catalog is told so while nobody has it. */
export async function age(stack: Stack, backups: readonly string[], days: number): Promise<void> {
  await stack.api.terminate()
  const catalog = new DatabaseSync(join(stack.home, 'catalog.sqlite'))
  const at = new Date(Date.now() - days * 86_400_000).toISOString()
  const change = catalog.prepare('update copies set committed_at = ? where backup_id = ?')
  for (const backup of backups) change.run(at, backup)
  catalog.close()
  await stack.restartApi()
}

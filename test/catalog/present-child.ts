/** An API process as far as the catalog knows: opens it, leads if it may, says who it is, and stays. */
import { openCatalog } from '../../catalog/open.ts'
import { testKey } from './support.ts'

const catalog = await openCatalog({ url: process.argv[2] ?? '', secretKey: testKey })
const leads = await catalog.presence.lead()
process.stdout.write(`${JSON.stringify({ process: catalog.presence.process, leads })}\n`)
setInterval(() => undefined, 1000)

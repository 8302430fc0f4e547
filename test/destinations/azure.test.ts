import { startAzurite } from '../servers/azurite.ts'
import { conformance } from './conformance.ts'
import { azureSubject } from './subjects.ts'

conformance('Azure (azurite)', async () => {
  const server = await startAzurite()
  const subject = await azureSubject(server, 'some prefix/of ours')
  return {
    ...subject,
    async close() {
      await subject.close()
      await server.stop()
    },
  }
})

import asyncio,sys,time
from anomaly_assets.live.sources.pump import Pump
from anomaly_assets_tests.live.sources import test_redis_streams as t
from anomaly_assets_tests.live.sources.test_redis_streams import server
from anomaly_assets_tests.live.sources.servers import *
def test_x(server, database, tmp_path):
    async def watch(src,holder):
        for _ in range(4):
            await asyncio.sleep(8)
            print("WATCH", src.connected, src.connections, holder[0].figures, len(stored(database)), flush=True)
            for task in asyncio.all_tasks(): task.print_stack(file=sys.stdout)
    async def main():
        src=t.source_of(server)
        async with journal(database,tmp_path) as sink, running(Pump(src,sink)) as p:
            w=asyncio.create_task(watch(src,[p]))
            for k in range(4):
                await until(lambda: src.connected,"connected",8); print("round",k,src.connections,flush=True)
                await asyncio.to_thread(t.add,server,range(k*200,k*200+200))
                server.kill()
                await until(lambda: not src.connected,"loss",8)
                server.start()
            await until(lambda: len(stored(database)) == 800,"all",8)
            print(p.figures, src.connections)
        print("left")
    asyncio.run(main())

# gnuplot -e 'data="echo.dat"; out="servers.svg"; columns=5' servers.gp
# A cluster for each server, a bar in it for each load.
set terminal svg size 860,380 font "Helvetica,Arial,sans-serif,13" \
    background rgb "white" dynamic
set output out
set style data histogram
set style histogram clustered gap 1.2
set style fill solid 0.9 noborder
set ylabel "CPU, reference = 1"
set yrange [0:2]
set grid ytics lc rgb "#d8d8d8"
set border 3 lc rgb "#444444"
set tics nomirror textcolor rgb "#222222"
set xtics scale 0 font ",12" noenhanced
set bmargin 3.2
set key above center horizontal samplen 1 maxrows 1
set key autotitle columnhead
set arrow from graph 0, first 1 to graph 1, first 1 nohead lc rgb "#222222" lw 1.5 front
array colour[6] = [0xbdd7e7, 0x6baed6, 0x2171b5, 0xe08214, 0x41ab5d, 0x006837]
plot for [i = 1:columns] data u i + 1:xtic(1) lc rgb colour[i]
